"""`run`, `call`, `check_call`, `check_output`: as in `subprocess`, but nothing they start outlives them."""

from __future__ import annotations

import subprocess
import sys
import time
from subprocess import PIPE, CalledProcessError, TimeoutExpired

from . import _check
from . import job as _job
from .errors import SurvivorsError, translated
from .popen import Popen

if sys.platform == "win32":
    from . import _windows as _platform
else:
    from . import _posix as _platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from ._signatures import T
else:
    T = bytes  # only for subscripts; to import typing would double the time of the import

__all__ = ["CompletedProcess", "call", "check_call", "check_output", "run"]

_KILL_SECONDS = 3.0  # with what follows, run(timeout=...) is at most 5 s late
_DRAIN_SECONDS = 0.5
_LATE_SECONDS = 1.0  # in which run() lets those end by themselves who write on after the program: `tee >(gzip >file)`
_GRACE_SECONDS = 2.0  # from asking those to end who stayed on, to killing them


class CompletedProcess(subprocess.CompletedProcess[T]):
    """As `subprocess.CompletedProcess`. `leftovers`: PIDs of what the program left alive, and run() ended."""

    leftovers: list[int]

    def __init__(
        self, args: Any, returncode: int, stdout: Any = None, stderr: Any = None, leftovers: Sequence[int] = ()
    ) -> None:
        super().__init__(args, returncode, stdout, stderr)
        self.leftovers = list(leftovers)


def run(
    *popenargs: Any,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    linger: float | None = None,
    **kwargs: Any,
) -> CompletedProcess[Any]:
    """As `subprocess.run`; when it returns nothing that it started is alive.

    timeout   seconds; at the deadline the tree is killed, what the pipes hold is read, and TimeoutExpired raised, at
              most 5 s late. Whoever could not be killed is named by the SurvivorsError that is its `__cause__`.
    linger    seconds from the program's exit for which its pipes are read on, and the rest of its tree is let be; by
              default the pipes are read to their end.

    Then what still lives of the tree is asked to end, and killed 2 s later; `leftovers` names it. With
    kill_on_close=False it is left alone.
    """
    if input is not None:
        if kwargs.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        kwargs["stdin"] = PIPE
    if capture_output:
        if kwargs.get("stdout") is not None or kwargs.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        kwargs["stdout"] = kwargs["stderr"] = PIPE
    limit = None if linger is None else _check.seconds(linger, "linger")

    def collect(process: Popen[Any]) -> tuple[Any, Any, list[int]]:
        if limit is not None or (_platform.OWN_READERS and timeout is not None):
            return _communicate(process, input, timeout, limit)
        stdout, stderr = process.communicate(input, timeout=timeout)
        return stdout, stderr, _end_leftovers(process, _LATE_SECONDS)

    process, (stdout, stderr, leftovers) = _contained(popenargs, kwargs, collect)
    returncode: int = process.returncode
    if check and returncode:
        raise CalledProcessError(returncode, process.args, output=stdout, stderr=stderr)
    return CompletedProcess(process.args, returncode, stdout, stderr, leftovers)


def call(*popenargs: Any, timeout: float | None = None, linger: float | None = None, **kwargs: Any) -> int:
    """As `subprocess.call`, with the promises of run(); `timeout` and `linger` in seconds."""
    late = _LATE_SECONDS if linger is None else _check.seconds(linger, "linger")

    def collect(process: Popen[Any]) -> int:
        returncode = process.wait(timeout=timeout)
        _end_leftovers(process, late)
        return returncode

    return _contained(popenargs, kwargs, collect)[1]


def check_call(*popenargs: Any, **kwargs: Any) -> int:
    """As `subprocess.check_call`, with the promises of run(); `timeout` and `linger` in seconds."""
    returncode = call(*popenargs, **kwargs)
    if returncode:
        raise CalledProcessError(returncode, kwargs["args"] if kwargs.get("args") is not None else popenargs[0])
    return 0


def check_output(*popenargs: Any, timeout: float | None = None, **kwargs: Any) -> Any:
    """As `subprocess.check_output`, with the promises of run(); `timeout` and `linger` in seconds."""
    for name in ("stdout", "check"):
        if name in kwargs:
            raise ValueError(f"{name} argument not allowed, it will be overridden.")
    if "input" in kwargs and kwargs["input"] is None:
        text = any(kwargs.get(name) for name in ("universal_newlines", "text", "encoding", "errors"))
        kwargs["input"] = "" if text else b""
    return run(*popenargs, stdout=PIPE, timeout=timeout, check=True, **kwargs).stdout


def _contained(popenargs: Any, kwargs: Any, collect: Callable[[Popen[Any]], T]) -> tuple[Popen[Any], T]:
    """Starts a program, collects what is wanted of it, and lets nothing of it live on, whatever happens."""
    process: Popen[Any] = Popen(*popenargs, **kwargs)
    try:
        result = collect(process)
    except TimeoutExpired as expired:
        _expire(process, expired)
    except BaseException as error:
        try:
            process.kill()
        except Exception as failed:
            _job._note(error, f"ending the program failed as well: {failed}")
        process.__exit__(type(error), error, error.__traceback__)
        raise
    process.__exit__(None, None, None)
    return process, result


def _expire(process: Popen[Any], expired: TimeoutExpired) -> NoReturn:
    """The deadline passed: kills, reads what the pipes hold, raises. Waits for nothing without an end."""
    cause: Exception | None = None
    try:
        survivors = process._kill_tree(_KILL_SECONDS)
        if survivors:
            cause = SurvivorsError(survivors)
    except Exception as error:
        cause = error
    _platform.take_rest(process, expired, _DRAIN_SECONDS)
    try:
        process.wait(timeout=_DRAIN_SECONDS)
    except TimeoutExpired:  # the program itself cannot be killed: its job, and its zombie, pass to this process
        for file in (process.stdin, process.stdout, process.stderr):
            _job._quietly(file.close if file is not None else int)
    else:
        process.__exit__(type(expired), expired, None)
    if cause is not None:
        raise expired from cause
    raise expired


def _end_leftovers(process: Popen[Any], late: float) -> list[int]:
    """The program has ended: who does not end within `late` seconds is asked to, then killed. Whom that hit."""
    private = process._private
    if private is None or not private._kills():
        return []
    with translated:
        core = private._core
        if core.wait(late):
            return []
        leftovers = core.pids()
    private.stop(_GRACE_SECONDS)
    process._settle()
    return leftovers


def _communicate(
    process: Popen[Any], input: Any, timeout: float | None, linger: float | None
) -> tuple[Any, Any, list[int]]:
    """communicate() with an end that does not depend on the pipes' end."""
    deadline = None if timeout is None else time.monotonic() + timeout
    process._exchange = exchange = _platform.Exchange(process, input)
    try:
        exited = exchange.run(deadline, float("inf") if linger is None else linger)
    except TimeoutError:
        assert timeout is not None
        output, errors = exchange.raw(process.stdout), exchange.raw(process.stderr)
        raise TimeoutExpired(process.args, timeout, output or None, errors or None) from None
    finally:
        exchange.close()
    late = _LATE_SECONDS if linger is None else max(exited + linger - time.monotonic(), 0.0)
    leftovers = _end_leftovers(process, late)
    exchange.drain(_DRAIN_SECONDS)
    return exchange.result(process.stdout), exchange.result(process.stderr), leftovers
