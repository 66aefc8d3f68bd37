"""Checks of arguments, made before any system call. Each returns the value in the form that the native module takes."""

from __future__ import annotations

import operator
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LARGEST_PID = 2**32 - 1 if sys.platform == "win32" else 2**31 - 1
_LONGEST_NAME = 100  # bytes: leaves room in every backend's own naming


def _integer(value: object, what: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{what} must be an integer, not {type(value).__name__}")
    index: Any = value
    return operator.index(index)


def pid(value: object) -> int:
    """A process id from an integer, or from anything with an attribute `pid`."""
    if not isinstance(value, int) and hasattr(value, "pid"):
        holder: Any = value
        value = holder.pid
        if value is None:
            raise ValueError("this process has not been started")
    number = _integer(value, "a PID")
    if not 0 < number <= _LARGEST_PID:
        raise ValueError(f"a PID lies between 1 and {_LARGEST_PID}, not {number}")
    return number


def seconds(value: object, what: str = "timeout") -> float:
    """A duration; what is negative has passed already."""
    if isinstance(value, bool) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise TypeError(f"{what} must be a number of seconds, not {type(value).__name__}")
    try:
        number = float(value)  # type: ignore[arg-type]  # str, the other thing that float() takes, was refused above
    except OverflowError:
        raise ValueError(f"{what} is out of range") from None
    if number != number:
        raise ValueError(f"{what} must not be NaN")
    return max(number, 0.0)


def timeout(value: object) -> float | None:
    """A duration, or None: without end."""
    if value is None:
        return None
    number = seconds(value)
    return None if number == float("inf") else number


def signal_number(value: object) -> int:
    number = _integer(value, "a signal")
    if sys.platform == "win32":
        if number not in (signal.SIGTERM, signal.CTRL_C_EVENT, signal.CTRL_BREAK_EVENT):
            raise ValueError(f"Unsupported signal: {number}")
    elif not 0 <= number < signal.NSIG:
        raise ValueError(f"a signal lies between 0 and {signal.NSIG - 1}, not {number}")
    return number


def name(value: object) -> str:
    """A job's name: 1 to 100 bytes of UTF-8 that could not be taken for a path."""
    if not isinstance(value, str):
        raise TypeError(f"a job's name must be a str, not {type(value).__name__}")
    value = str.__str__(value)  # what a subclass says of itself is not what C would see
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError(f"a job's name must be encodable as UTF-8: {value!a}") from None
    if not 0 < size <= _LONGEST_NAME:
        raise ValueError(f"a job's name has 1 to {_LONGEST_NAME} bytes, not {size}")
    if value in (".", "..") or any(c in "/\\" or ord(c) < 32 or 127 <= ord(c) < 160 for c in value):
        raise ValueError(f"a job's name has no slash, backslash or control character, and is no path: {value!r}")
    return value
