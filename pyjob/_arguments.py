"""What `Popen` is given: checked before the base class does, and handed on to the platform's half of it."""

from __future__ import annotations

import errno
import os
import sys
import warnings

from . import _native, guarantees, job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from ._signatures import Path


class Request:
    """What `subprocess.Popen.__init__` asks of `_execute_child`."""

    args: Any
    executable: Path | None
    preexec_fn: Callable[[], Any] | None
    close_fds: bool
    pass_fds: Any
    cwd: Path | None
    env: Mapping[Any, Any] | None
    startupinfo: Any
    creationflags: int
    shell: bool
    fds: tuple[Any, Any, Any, Any, Any, Any]  # p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite
    restore_signals: bool
    gid: int | None
    gids: list[int] | None
    uid: int | None
    umask: int
    start_new_session: bool
    process_group: int
    closed = False  # whether a descriptor that was named is not open

    def __init__(self, **fields: Any) -> None:
        """Before the job is made: what that opens could get the number of a closed descriptor."""
        self.__dict__.update(fields)
        if sys.platform != "win32":
            nothing = () if sys.version_info >= (3, 13) else self.pass_fds  # None is one only there
            self.pass_fds = tuple(self.pass_fds or nothing)
            p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = self.fds
            ends = (p2cread, p2cwrite), (c2pwrite, c2pread), (errwrite, errread)
            named = [its for its, ours in ends if its != -1 and ours == -1]  # the rest are pipes that were just made
            self.closed = not all(map(_is_open, (*self.pass_fds, *named)))


def _is_open(fd: Any) -> bool:
    try:
        os.get_inheritable(int(fd))  # fcntl(2) F_GETFD
    except OSError as error:
        return error.errno != errno.EBADF
    except (TypeError, ValueError, OverflowError):
        pass  # refused by those who need a number
    return True


def place(job_: object, backend: object, require: Iterable[str], kill_on_close: bool | None) -> Any:
    """Checks what subprocess does not know, before any system call, and turns it into what Job._for_program() takes."""
    if job_ is not None and not isinstance(job_, job.Job):
        raise TypeError(f"job must be a pyjob.Job, not {type(job_).__name__}")
    name = guarantees.check_backend(backend)
    wanted = guarantees.required_bits(require) if require != () else 0
    if job_ is not None and name not in (None, job_.backend):
        raise ValueError(f"the job given is on {job_.backend}, not on {name}")
    if kill_on_close is not None and not kill_on_close and wanted & _native.GUARANTEES["dies_with_owner"]:
        raise ValueError("dies_with_owner cannot be required with kill_on_close=False")
    return job_, kill_on_close, name, wanted


def text_encoding() -> str:
    """The default of text mode, with the warning of PEP 597 on the line that called pyjob."""
    import locale

    ours = os.path.dirname(__file__)
    level = 1
    frame = sys._getframe()
    while frame.f_back is not None and os.path.dirname(frame.f_code.co_filename) == ours:
        frame = frame.f_back
        level += 1
    warnings.warn("'encoding' argument not specified.", EncodingWarning, stacklevel=level)
    if sys.version_info < (3, 11) or sys.flags.utf8_mode:
        return "utf-8"
    return locale.getencoding()
