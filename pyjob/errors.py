"""The exceptions of pyjob. All of them are below `JobError`, and so below `OSError`.

An operating system's refusal is raised as the `OSError` that `subprocess` would raise (`PermissionError`,
`FileExistsError`, ...), with its `errno` (on Windows `winerror`). Its attribute `call` names the system call, or what
that was for, and so does its text; that of a start has the words of `subprocess`.
"""

from __future__ import annotations

from . import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

__all__ = ["JobClosedError", "JobError", "SurvivorsError", "UnsupportedError"]


class JobError(OSError):
    """The base of what pyjob itself raises."""


class UnsupportedError(JobError):
    """This backend, or no backend of this machine, can do what was asked; the text says what would help."""


class JobClosedError(JobError):
    """The job was closed, or belongs to the process that this one was forked from."""


class SurvivorsError(JobError):
    """Processes outlived a kill, for instance in uninterruptible sleep, or another user's setuid program.

    `pids` names them; they were alive when the deadline passed. `killed` is what `kill_tree` would have returned: whom
    it did end; empty for all else.
    """

    pids: list[int]
    killed: list[int]

    def __init__(self, pids: Iterable[int], message: str | None = None, killed: Iterable[int] = ()) -> None:
        self.pids = sorted(pids)
        self.killed = sorted(set(killed).difference(self.pids))
        if message is None:
            who = ", ".join(map(str, self.pids[:20])) + (", ..." if len(self.pids) > 20 else "")
            many = "1 process" if len(self.pids) == 1 else f"{len(self.pids)} processes"
            message = f"{many} could not be ended in time: {who}"
        super().__init__(message)

    def __reduce__(self) -> tuple[type[SurvivorsError], tuple[list[int], str, list[int]]]:
        return type(self), (self.pids, str(self), self.killed)


class _Translated:
    """`with translated:` turns the native module's two exceptions into the public ones. Stateless."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is _native.ClosedError:
            raise JobClosedError(str(value)) from None
        if kind is _native.UnsupportedReason:
            raise UnsupportedError(str(value)) from None


translated: _Translated = _Translated()
