"""Processes by identity, portable, with nothing of pyjob in it: the tests must not trust what they test."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 30.0  # seconds; generous, because a loaded machine is no failure of ours


def eventually(
    predicate: Callable[[], T], deadline: float = DEADLINE, message: str | Callable[[], str] = "", pause: float = 0.01
) -> T:
    """Polls until `predicate()` is true and returns its value; AssertionError after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= end:
            text = message() if callable(message) else message
            raise AssertionError(f"not within {deadline} s: {text or getattr(predicate, '__name__', predicate)}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _k32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _k32.OpenProcess.restype = wintypes.HANDLE
    _k32.OpenProcess.argtypes = [wintypes.DWORD, wintypes.BOOL, wintypes.DWORD]
    _k32.CloseHandle.argtypes = [wintypes.HANDLE]
    _k32.WaitForSingleObject.argtypes = [wintypes.HANDLE, wintypes.DWORD]
    _k32.GetProcessTimes.argtypes = [wintypes.HANDLE] + [ctypes.POINTER(wintypes.FILETIME)] * 4
    _k32.TerminateProcess.argtypes = [wintypes.HANDLE, wintypes.UINT]
    _SYNCHRONIZE, _QUERY, _TERMINATE = 0x100000, 0x400, 1

    def _open(pid: int, access: int) -> int:
        return int(_k32.OpenProcess(access, False, pid) or 0)

    def start_time(pid: int) -> int | None:
        """The start time in the system's own unit, or None when nobody has this PID."""
        handle = _open(pid, _QUERY)
        if not handle:
            return None
        try:
            times = [wintypes.FILETIME() for _ in range(4)]
            if not _k32.GetProcessTimes(handle, *(ctypes.byref(t) for t in times)):
                raise ctypes.WinError(ctypes.get_last_error())
            return int(times[0].dwHighDateTime << 32 | times[0].dwLowDateTime)
        finally:
            _k32.CloseHandle(handle)

    def _running(pid: int) -> bool:
        handle = _open(pid, _SYNCHRONIZE)
        if not handle:
            return False
        try:
            return bool(_k32.WaitForSingleObject(handle, 0) == 0x102)
        finally:
            _k32.CloseHandle(handle)

    def end(pid: int) -> None:
        handle = _open(pid, _TERMINATE)
        if handle:
            _k32.TerminateProcess(handle, 9)
            _k32.CloseHandle(handle)

else:
    import signal

    if sys.platform.startswith("linux"):

        def _stat(pid: int) -> list[str] | None:
            try:
                text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                return None
            return text[text.rindex(")") + 2 :].split()

        def start_time(pid: int) -> int | None:
            """The start time in clock ticks since boot, or None when nobody has this PID."""
            fields = _stat(pid)
            return int(fields[19]) if fields else None

        def _running(pid: int) -> bool:
            fields = _stat(pid)
            return fields is not None and fields[0] not in "ZX"

    else:

        def _ps(pid: int, what: str) -> str:
            import subprocess

            return subprocess.run(
                ["ps", "-o", f"{what}=", "-p", str(pid)], capture_output=True, text=True
            ).stdout.strip()

        def start_time(pid: int) -> int | None:
            text = _ps(pid, "lstart")
            return int(time.mktime(time.strptime(text))) if text else None

        def _running(pid: int) -> bool:
            state = _ps(pid, "state")
            return bool(state) and state[0] != "Z"

    def end(pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def alive(pid: int, started: int | None = None) -> bool:
    """Whether this very process runs: a zombie is dead, and so is one whose PID belongs to somebody else by now."""
    return _running(pid) and (started is None or start_time(pid) == started)


@dataclass(frozen=True)
class Identity:
    """A process that cannot be mistaken for its successor."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Identity:
        started = start_time(pid)
        assert started is not None, f"no process {pid}"
        return cls(pid, started)

    def alive(self) -> bool:
        return alive(self.pid, self.started)

    def end(self) -> None:
        if self.alive():
            end(self.pid)


@dataclass(frozen=True)
class Seen:
    """One line of /proc, as far as the look for leftovers needs it."""

    pid: int
    ppid: int
    group: int
    session: int
    state: str
    started: int
    comm: str

    @property
    def key(self) -> tuple[int, int]:
        return self.pid, self.started

    def argv(self) -> list[str]:
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        except OSError:
            return []

    def environ(self) -> bytes:
        try:
            return Path(f"/proc/{self.pid}/environ").read_bytes()
        except OSError:
            return b""

    def __str__(self) -> str:
        place = f"parent {self.ppid}, group {self.group}, session {self.session}, {self.state}"
        return f"{self.pid} ({place}) {self.argv() or self.comm}"


def processes() -> Iterator[Seen]:
    """All processes of this machine (Linux)."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path(f"/proc/{entry}/stat").read_text(errors="replace")
        except OSError:
            continue
        left, right = text.index("("), text.rindex(")")
        fields = text[right + 2 :].split()
        yield Seen(
            int(entry),
            int(fields[1]),
            int(fields[2]),
            int(fields[3]),
            fields[0],
            int(fields[19]),
            text[left + 1 : right],
        )


def descendants(pid: int, everybody: list[Seen] | None = None) -> list[Seen]:
    """All below `pid` by parentage, zombies included (Linux)."""
    everybody = list(processes()) if everybody is None else everybody
    children: dict[int, list[Seen]] = {}
    for seen in everybody:
        children.setdefault(seen.ppid, []).append(seen)
    found: list[Seen] = []
    todo = [pid]
    while todo:
        for seen in children.get(todo.pop(), ()):
            found.append(seen)
            todo.append(seen.pid)
    return found


def guards_of(pid: int) -> list[Seen]:
    """The guards that watch this owner: those that hold a pidfd of it (Linux)."""

    def watches(guard: Seen) -> bool:
        try:
            for info in Path(f"/proc/{guard.pid}/fdinfo").iterdir():
                if f"Pid:\t{pid}" in info.read_text().splitlines():
                    return True
        except OSError:
            pass  # gone meanwhile
        return False

    return [one for one in processes() if one.comm == "pyjob-guard" and one.state not in "ZX" and watches(one)]


def pidfds() -> bool:
    """Whether the kernel gives pidfds: it may be too old, or a filter (helpers/filtered.py) may refuse them."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


# setpriv(1) for a user without rights; what follows is executed.
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def pid_max_is_per_namespace() -> bool:
    """Since Linux 6.14. Before, to set it in a namespace would set it for the whole machine."""
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    return found is not None and (int(found[1]), int(found[2])) >= (6, 14)
