"""What `Popen` hands to the platform's half of it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from typing import Any

    Argument = str | bytes | os.PathLike[Any]

__all__ = ["Request"]


class Request:
    """What `subprocess.Popen.__init__` asks of `_execute_child`."""

    args: Any
    executable: Argument | None
    preexec_fn: Callable[[], Any] | None
    close_fds: bool
    pass_fds: Any
    cwd: Argument | None
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

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)
