"""Single processes by identity, and trees by parentage. No job is needed for any of this."""

from __future__ import annotations

import errno
import os
import subprocess

from . import _check, _native
from .errors import SurvivorsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn

    from ._signatures import ProcessLike

__all__ = ["ProcessHandle", "children", "kill_tree"]

_LOST = "some may live on unseen: they were never all at rest while they were being stopped"
_SIGKILL = 9  # the native module takes it on Windows too, where `signal` has no such name


class ProcessHandle:
    """A pinned process: its PID can be recycled, this handle cannot be fooled.

    Made of a pidfd (pidfd_open(2)) on Linux and of a process handle (OpenProcess) on Windows. Below Linux 5.3 and on
    macOS there is neither: identity is then the PID with its start time, checked before each action, and `pinned` is
    False. Handles compare and hash by identity, never by PID alone, also after `close()`.

    Raises ProcessLookupError when nobody has this PID, PermissionError when the system does not let us look at the
    process. A zombie can be pinned; it is not alive.
    """

    __slots__ = ("__weakref__", "_core")

    _core: _native.Process

    def __init__(self, pid: ProcessLike) -> None:
        self._core = pin(pid)
        if isinstance(pid, ProcessHandle):  # a handle of its own, which can be closed by itself
            pid.is_alive()  # ValueError when that is closed
            self._core = _native.Process(pid.pid)
            if self != pid:
                raise ProcessLookupError(errno.ESRCH, f"process {pid.pid} has ended already")

    @classmethod
    def _wrap(cls, native: _native.Process) -> ProcessHandle:
        self = cls.__new__(cls)
        self._core = native
        return self

    @property
    def pid(self) -> int:
        """The process id; somebody else's, perhaps, once the process has ended and was collected."""
        return self._core.pid

    @property
    def create_time(self) -> float:
        """When it was started, in seconds since the epoch (/proc/PID/stat, GetProcessTimes).

        PermissionError when /proc hid it (hidepid) as the handle was made.
        """
        return self._core.create_time

    @property
    def pinned(self) -> bool:
        """Whether the system keeps the identity for us (a pidfd or process handle)."""
        return self._core.pinned

    def is_alive(self) -> bool:
        """False for the dead and for zombies. poll(2) of the pidfd, /proc/PID/stat, WaitForSingleObject.

        ValueError after close().
        """
        return self._core.is_alive()

    def send_signal(self, sig: int) -> None:
        """Sends a signal (pidfd_send_signal(2)). ProcessLookupError when it has ended, PermissionError when refused.

        To a kernel thread, too, which would ignore it in silence.

        On Windows SIGTERM is TerminateProcess, CTRL_C_EVENT and CTRL_BREAK_EVENT are GenerateConsoleCtrlEvent.
        """
        self._core.send_signal(_check.signal_number(sig))

    def kill(self) -> None:
        """Ends the process (SIGKILL by pidfd_send_signal(2), TerminateProcess); does not wait for it.

        Nothing happens when it has ended already; PermissionError when the system refuses it.
        """
        try:
            self._core.send_signal(_SIGKILL)
        except OSError:
            if self._core.is_alive():
                raise

    def wait(self, timeout: float | None = None) -> int | None:
        """Waits until it has ended, at most `timeout` seconds; subprocess.TimeoutExpired otherwise.

        Returns its exit code as `Popen.returncode` does, or None where the system does not tell (Linux: for a process
        that is not our child, before kernel 6.15). Never reaps. poll(2) of the pidfd, WaitForSingleObject.
        """
        limit = _check.timeout(timeout)
        ended, status = self._core.wait(limit)
        if not ended:
            raise subprocess.TimeoutExpired(f"process {self.pid}", limit if limit is not None else 0.0)
        return status

    def close(self) -> None:
        """Lets go of the process; nothing happens to it. Operations raise ValueError from then on. Idempotent.

        close(2), CloseHandle.
        """
        self._core.close()

    def __enter__(self) -> ProcessHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __eq__(self, other: object) -> bool:
        return self._core.identity == other._core.identity if isinstance(other, ProcessHandle) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._core.identity)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a process handle cannot be copied or pickled")

    def __repr__(self) -> str:
        return f"<pyjob.ProcessHandle pid={self.pid}>"


def pin(process: ProcessLike) -> _native.Process:
    """Pins what was given: pinned first; then the object is asked whether it has let its PID go meanwhile."""
    if isinstance(process, ProcessHandle):
        return process._core
    number = _check.pid(process)
    native = _native.Process(number)
    if not isinstance(process, int) and _has_ended(process):
        raise ProcessLookupError(errno.ESRCH, f"process {number} has ended already")
    return native


def _has_ended(process: object) -> bool:
    """Whether this object knows that its process was collected, so that its PID may be somebody else's."""
    if getattr(process, "returncode", None) is not None:  # subprocess.Popen, asyncio's Process
        return True
    if getattr(process, "exitcode", None) is not None:  # multiprocessing.Process
        return True
    is_running = getattr(process, "is_running", None)  # psutil.Process
    return callable(is_running) and not is_running()


def children(process: ProcessLike | None = None, *, recursive: bool = False) -> list[int]:
    """The living children of a process (default: of this one) by parent PID, sorted; with `recursive` all descendants.

    Who was orphaned has another parent and is not found: a `Job` finds it. A process older than its alleged parent is
    not believed to be its child, since the parent's PID was recycled then. ProcessLookupError when the process has
    ended and was collected. One pass over /proc/PID/stat (proc_pid_stat(5)), on Windows NtQuerySystemInformation.
    """
    native = pin(os.getpid() if process is None else process)
    return native.children(bool(recursive))


def kill_tree(process: ProcessLike, *, include_root: bool = True, timeout: float = 5.0) -> list[int]:
    """Ends a process and all that is connected with it when reached, and returns the PIDs of whom it ended.

    Stops what it finds, looks again until nobody new is there, then kills (SIGKILL), each by its pinned identity. The
    caller and its ancestors are spared, unless they are the root that was asked for. Processes that were orphaned
    before the call are not connected any more. Those alive after `timeout` seconds are named by SurvivorsError,
    whose `killed` lists the others. A tree that never stands still, since somebody wakes what was stopped and it forks
    on, may lose an orphan unseen: SurvivorsError then, too, with nobody to name (what it forks in the microseconds
    between the last look at it and its SIGKILL is not told). PermissionError when the process, and whoever is connected
    with it, may not be signalled.

    Not promised: two processes that end trees with each other inside at the same moment can stop one another before
    either kills, and both trees then stay stopped until somebody else ends or continues one of the two. Let one do it.
    """
    limit = _check.seconds(timeout)
    killed, survivors, dead = pin(process).kill_tree(bool(include_root), limit)
    if not dead:
        raise SurvivorsError(survivors, None if survivors else _LOST, killed)
    return sorted(killed)
