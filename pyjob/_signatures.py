"""What type checkers are told of the calls that start programs, in the overloads of typeshed's `subprocess`.

Never imported at run time, where it would cost more than all else of the import: the calls themselves are in job.py and
_run.py. `stubtest` compares the two (tests/typing). An overload for each argument that turns on text mode, one
for binary mode, and one for what only the run will tell.
"""

# fmt: off
from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, SupportsIndex, TypeAlias, TypedDict, TypeVar, overload

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from typing_extensions import Unpack

    from ._run import CompletedProcess
    from .job import Job as _Job
    from .popen import Popen

__all__ = ["Starts", "call", "check_call", "check_output", "run"]

T = TypeVar("T")
Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Command: TypeAlias = Path | Sequence[Path]
Environment: TypeAlias = Mapping[str, Path] | Mapping[bytes, Path]
File: TypeAlias = int | IO[Any] | None


class HasPid(Protocol):
    @property
    def pid(self) -> int | None: ...


ProcessLike: TypeAlias = SupportsIndex | HasPid


class Options(TypedDict, total=False):
    """What says nothing about text or binary mode."""

    bufsize: int
    executable: Path | None
    stdin: File
    stdout: File
    stderr: File
    preexec_fn: Callable[[], Any] | None
    close_fds: bool
    shell: bool
    cwd: Path | None
    env: Environment | None
    startupinfo: Any
    creationflags: int
    restore_signals: bool
    start_new_session: bool
    pass_fds: Collection[int]
    user: str | int | None
    group: str | int | None
    extra_groups: Iterable[str | int] | None
    umask: int
    pipesize: int
    process_group: int | None
    backend: str | None
    require: Iterable[str]
    kill_on_close: bool | None


class Starts:
    """What `Job` is derived from, as a checker sees it."""

    @overload
    def popen(
        self, args: Command, *, universal_newlines: bool | None = None, text: Literal[True],
        encoding: str | None = None, errors: str | None = None, **options: Unpack[Options],
    ) -> Popen[str]: ...
    @overload
    def popen(
        self, args: Command, *, universal_newlines: bool | None = None, text: bool | None = None, encoding: str,
        errors: str | None = None, **options: Unpack[Options],
    ) -> Popen[str]: ...
    @overload
    def popen(
        self, args: Command, *, universal_newlines: bool | None = None, text: bool | None = None,
        encoding: str | None = None, errors: str, **options: Unpack[Options],
    ) -> Popen[str]: ...
    @overload
    def popen(
        self, args: Command, *, universal_newlines: Literal[True], text: bool | None = None,
        encoding: str | None = None, errors: str | None = None, **options: Unpack[Options],
    ) -> Popen[str]: ...
    @overload
    def popen(
        self, args: Command, *, universal_newlines: Literal[False] | None = None, text: Literal[False] | None = None,
        encoding: None = None, errors: None = None, **options: Unpack[Options],
    ) -> Popen[bytes]: ...
    @overload
    def popen(
        self, args: Command, *, universal_newlines: bool | None = None, text: bool | None = None,
        encoding: str | None = None, errors: str | None = None, **options: Unpack[Options],
    ) -> Popen[Any]: ...
    def popen(self, *args: Any, **kwargs: Any) -> Any:
        """Starts a program in this job; the arguments are those of `subprocess.Popen`."""

    @overload
    def run(
        self, args: Command, *, universal_newlines: bool | None = None, text: Literal[True],
        encoding: str | None = None, errors: str | None = None, input: str | None = None, capture_output: bool = False,
        check: bool = False, timeout: float | None = None, linger: float | None = None, **options: Unpack[Options],
    ) -> CompletedProcess[str]: ...
    @overload
    def run(
        self, args: Command, *, universal_newlines: bool | None = None, text: bool | None = None, encoding: str,
        errors: str | None = None, input: str | None = None, capture_output: bool = False, check: bool = False,
        timeout: float | None = None, linger: float | None = None, **options: Unpack[Options],
    ) -> CompletedProcess[str]: ...
    @overload
    def run(
        self, args: Command, *, universal_newlines: bool | None = None, text: bool | None = None,
        encoding: str | None = None, errors: str, input: str | None = None, capture_output: bool = False,
        check: bool = False, timeout: float | None = None, linger: float | None = None, **options: Unpack[Options],
    ) -> CompletedProcess[str]: ...
    @overload
    def run(
        self, args: Command, *, universal_newlines: Literal[True], text: bool | None = None,
        encoding: str | None = None, errors: str | None = None, input: str | None = None, capture_output: bool = False,
        check: bool = False, timeout: float | None = None, linger: float | None = None, **options: Unpack[Options],
    ) -> CompletedProcess[str]: ...
    @overload
    def run(
        self, args: Command, *, universal_newlines: Literal[False] | None = None, text: Literal[False] | None = None,
        encoding: None = None, errors: None = None, input: ReadableBuffer | None = None, capture_output: bool = False,
        check: bool = False, timeout: float | None = None, linger: float | None = None, **options: Unpack[Options],
    ) -> CompletedProcess[bytes]: ...
    @overload
    def run(
        self, args: Command, *, universal_newlines: bool | None = None, text: bool | None = None,
        encoding: str | None = None, errors: str | None = None, input: ReadableBuffer | str | None = None,
        capture_output: bool = False, check: bool = False, timeout: float | None = None, linger: float | None = None,
        **options: Unpack[Options],
    ) -> CompletedProcess[Any]: ...
    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Runs a program in this job to its end; the arguments are those of `subprocess.run`."""


@overload
def run(
    args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None, stdout: File = None,
    stderr: File = None, preexec_fn: Callable[[], Any] | None = None, close_fds: bool = True, shell: bool = False,
    cwd: Path | None = None, env: Environment | None = None, universal_newlines: bool | None = None,
    startupinfo: Any = None, creationflags: int = 0, restore_signals: bool = True, start_new_session: bool = False,
    pass_fds: Collection[int] = (), *, text: Literal[True], encoding: str | None = None, errors: str | None = None,
    user: str | int | None = None, group: str | int | None = None, extra_groups: Iterable[str | int] | None = None,
    umask: int = -1, pipesize: int = -1, process_group: int | None = None, input: str | None = None,
    capture_output: bool = False, check: bool = False, timeout: float | None = None, linger: float | None = None,
    job: _Job | None = None, backend: str | None = None, require: Iterable[str] = (), kill_on_close: bool | None = None,
) -> CompletedProcess[str]: ...
@overload
def run(
    args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None, stdout: File = None,
    stderr: File = None, preexec_fn: Callable[[], Any] | None = None, close_fds: bool = True, shell: bool = False,
    cwd: Path | None = None, env: Environment | None = None, universal_newlines: bool | None = None,
    startupinfo: Any = None, creationflags: int = 0, restore_signals: bool = True, start_new_session: bool = False,
    pass_fds: Collection[int] = (), *, text: bool | None = None, encoding: str, errors: str | None = None,
    user: str | int | None = None, group: str | int | None = None, extra_groups: Iterable[str | int] | None = None,
    umask: int = -1, pipesize: int = -1, process_group: int | None = None, input: str | None = None,
    capture_output: bool = False, check: bool = False, timeout: float | None = None, linger: float | None = None,
    job: _Job | None = None, backend: str | None = None, require: Iterable[str] = (), kill_on_close: bool | None = None,
) -> CompletedProcess[str]: ...
@overload
def run(
    args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None, stdout: File = None,
    stderr: File = None, preexec_fn: Callable[[], Any] | None = None, close_fds: bool = True, shell: bool = False,
    cwd: Path | None = None, env: Environment | None = None, universal_newlines: bool | None = None,
    startupinfo: Any = None, creationflags: int = 0, restore_signals: bool = True, start_new_session: bool = False,
    pass_fds: Collection[int] = (), *, text: bool | None = None, encoding: str | None = None, errors: str,
    user: str | int | None = None, group: str | int | None = None, extra_groups: Iterable[str | int] | None = None,
    umask: int = -1, pipesize: int = -1, process_group: int | None = None, input: str | None = None,
    capture_output: bool = False, check: bool = False, timeout: float | None = None, linger: float | None = None,
    job: _Job | None = None, backend: str | None = None, require: Iterable[str] = (), kill_on_close: bool | None = None,
) -> CompletedProcess[str]: ...
@overload
def run(
    args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None, stdout: File = None,
    stderr: File = None, preexec_fn: Callable[[], Any] | None = None, close_fds: bool = True, shell: bool = False,
    cwd: Path | None = None, env: Environment | None = None, *, universal_newlines: Literal[True],
    startupinfo: Any = None, creationflags: int = 0, restore_signals: bool = True, start_new_session: bool = False,
    pass_fds: Collection[int] = (), text: bool | None = None, encoding: str | None = None, errors: str | None = None,
    user: str | int | None = None, group: str | int | None = None, extra_groups: Iterable[str | int] | None = None,
    umask: int = -1, pipesize: int = -1, process_group: int | None = None, input: str | None = None,
    capture_output: bool = False, check: bool = False, timeout: float | None = None, linger: float | None = None,
    job: _Job | None = None, backend: str | None = None, require: Iterable[str] = (), kill_on_close: bool | None = None,
) -> CompletedProcess[str]: ...
@overload
def run(
    args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None, stdout: File = None,
    stderr: File = None, preexec_fn: Callable[[], Any] | None = None, close_fds: bool = True, shell: bool = False,
    cwd: Path | None = None, env: Environment | None = None, universal_newlines: Literal[False] | None = None,
    startupinfo: Any = None, creationflags: int = 0, restore_signals: bool = True, start_new_session: bool = False,
    pass_fds: Collection[int] = (), *, text: Literal[False] | None = None, encoding: None = None, errors: None = None,
    user: str | int | None = None, group: str | int | None = None, extra_groups: Iterable[str | int] | None = None,
    umask: int = -1, pipesize: int = -1, process_group: int | None = None, input: ReadableBuffer | None = None,
    capture_output: bool = False, check: bool = False, timeout: float | None = None, linger: float | None = None,
    job: _Job | None = None, backend: str | None = None, require: Iterable[str] = (), kill_on_close: bool | None = None,
) -> CompletedProcess[bytes]: ...
@overload
def run(
    args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None, stdout: File = None,
    stderr: File = None, preexec_fn: Callable[[], Any] | None = None, close_fds: bool = True, shell: bool = False,
    cwd: Path | None = None, env: Environment | None = None, universal_newlines: bool | None = None,
    startupinfo: Any = None, creationflags: int = 0, restore_signals: bool = True, start_new_session: bool = False,
    pass_fds: Collection[int] = (), *, text: bool | None = None, encoding: str | None = None, errors: str | None = None,
    user: str | int | None = None, group: str | int | None = None, extra_groups: Iterable[str | int] | None = None,
    umask: int = -1, pipesize: int = -1, process_group: int | None = None, input: ReadableBuffer | str | None = None,
    capture_output: bool = False, check: bool = False, timeout: float | None = None, linger: float | None = None,
    job: _Job | None = None, backend: str | None = None, require: Iterable[str] = (), kill_on_close: bool | None = None,
) -> CompletedProcess[Any]: ...
def run(*args: Any, **kwargs: Any) -> Any:
    """As `subprocess.run`; when it returns nothing that it started is alive."""


@overload
def check_output(
    args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None, stderr: File = None,
    preexec_fn: Callable[[], Any] | None = None, close_fds: bool = True, shell: bool = False, cwd: Path | None = None,
    env: Environment | None = None, universal_newlines: bool | None = None, startupinfo: Any = None,
    creationflags: int = 0, restore_signals: bool = True, start_new_session: bool = False,
    pass_fds: Collection[int] = (), *, text: Literal[True], encoding: str | None = None, errors: str | None = None,
    user: str | int | None = None, group: str | int | None = None, extra_groups: Iterable[str | int] | None = None,
    umask: int = -1, pipesize: int = -1, process_group: int | None = None, input: str | None = None,
    timeout: float | None = None, linger: float | None = None, job: _Job | None = None, backend: str | None = None,
    require: Iterable[str] = (), kill_on_close: bool | None = None,
) -> str: ...
@overload
def check_output(
    args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None, stderr: File = None,
    preexec_fn: Callable[[], Any] | None = None, close_fds: bool = True, shell: bool = False, cwd: Path | None = None,
    env: Environment | None = None, universal_newlines: bool | None = None, startupinfo: Any = None,
    creationflags: int = 0, restore_signals: bool = True, start_new_session: bool = False,
    pass_fds: Collection[int] = (), *, text: bool | None = None, encoding: str, errors: str | None = None,
    user: str | int | None = None, group: str | int | None = None, extra_groups: Iterable[str | int] | None = None,
    umask: int = -1, pipesize: int = -1, process_group: int | None = None, input: str | None = None,
    timeout: float | None = None, linger: float | None = None, job: _Job | None = None, backend: str | None = None,
    require: Iterable[str] = (), kill_on_close: bool | None = None,
) -> str: ...
@overload
def check_output(
    args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None, stderr: File = None,
    preexec_fn: Callable[[], Any] | None = None, close_fds: bool = True, shell: bool = False, cwd: Path | None = None,
    env: Environment | None = None, universal_newlines: bool | None = None, startupinfo: Any = None,
    creationflags: int = 0, restore_signals: bool = True, start_new_session: bool = False,
    pass_fds: Collection[int] = (), *, text: bool | None = None, encoding: str | None = None, errors: str,
    user: str | int | None = None, group: str | int | None = None, extra_groups: Iterable[str | int] | None = None,
    umask: int = -1, pipesize: int = -1, process_group: int | None = None, input: str | None = None,
    timeout: float | None = None, linger: float | None = None, job: _Job | None = None, backend: str | None = None,
    require: Iterable[str] = (), kill_on_close: bool | None = None,
) -> str: ...
@overload
def check_output(
    args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None, stderr: File = None,
    preexec_fn: Callable[[], Any] | None = None, close_fds: bool = True, shell: bool = False, cwd: Path | None = None,
    env: Environment | None = None, *, universal_newlines: Literal[True], startupinfo: Any = None,
    creationflags: int = 0, restore_signals: bool = True, start_new_session: bool = False,
    pass_fds: Collection[int] = (), text: bool | None = None, encoding: str | None = None, errors: str | None = None,
    user: str | int | None = None, group: str | int | None = None, extra_groups: Iterable[str | int] | None = None,
    umask: int = -1, pipesize: int = -1, process_group: int | None = None, input: str | None = None,
    timeout: float | None = None, linger: float | None = None, job: _Job | None = None, backend: str | None = None,
    require: Iterable[str] = (), kill_on_close: bool | None = None,
) -> str: ...
@overload
def check_output(
    args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None, stderr: File = None,
    preexec_fn: Callable[[], Any] | None = None, close_fds: bool = True, shell: bool = False, cwd: Path | None = None,
    env: Environment | None = None, universal_newlines: Literal[False] | None = None, startupinfo: Any = None,
    creationflags: int = 0, restore_signals: bool = True, start_new_session: bool = False,
    pass_fds: Collection[int] = (), *, text: Literal[False] | None = None, encoding: None = None, errors: None = None,
    user: str | int | None = None, group: str | int | None = None, extra_groups: Iterable[str | int] | None = None,
    umask: int = -1, pipesize: int = -1, process_group: int | None = None, input: ReadableBuffer | None = None,
    timeout: float | None = None, linger: float | None = None, job: _Job | None = None, backend: str | None = None,
    require: Iterable[str] = (), kill_on_close: bool | None = None,
) -> bytes: ...
@overload
def check_output(
    args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None, stderr: File = None,
    preexec_fn: Callable[[], Any] | None = None, close_fds: bool = True, shell: bool = False, cwd: Path | None = None,
    env: Environment | None = None, universal_newlines: bool | None = None, startupinfo: Any = None,
    creationflags: int = 0, restore_signals: bool = True, start_new_session: bool = False,
    pass_fds: Collection[int] = (), *, text: bool | None = None, encoding: str | None = None, errors: str | None = None,
    user: str | int | None = None, group: str | int | None = None, extra_groups: Iterable[str | int] | None = None,
    umask: int = -1, pipesize: int = -1, process_group: int | None = None, input: ReadableBuffer | str | None = None,
    timeout: float | None = None, linger: float | None = None, job: _Job | None = None, backend: str | None = None,
    require: Iterable[str] = (), kill_on_close: bool | None = None,
) -> Any: ...
def check_output(*args: Any, **kwargs: Any) -> Any:
    """As `subprocess.check_output`, with the promises of run(); `timeout` and `linger` in seconds."""


def call(
    args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None, stdout: File = None,
    stderr: File = None, preexec_fn: Callable[[], Any] | None = None, close_fds: bool = True, shell: bool = False,
    cwd: Path | None = None, env: Environment | None = None, universal_newlines: bool | None = None,
    startupinfo: Any = None, creationflags: int = 0, restore_signals: bool = True, start_new_session: bool = False,
    pass_fds: Collection[int] = (), *, text: bool | None = None, encoding: str | None = None, errors: str | None = None,
    user: str | int | None = None, group: str | int | None = None, extra_groups: Iterable[str | int] | None = None,
    umask: int = -1, pipesize: int = -1, process_group: int | None = None, timeout: float | None = None,
    linger: float | None = None, job: _Job | None = None, backend: str | None = None, require: Iterable[str] = (),
    kill_on_close: bool | None = None,
) -> int:
    """As `subprocess.call`, with the promises of run(); `timeout` and `linger` in seconds."""
    raise NotImplementedError  # see _run.py


def check_call(
    args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None, stdout: File = None,
    stderr: File = None, preexec_fn: Callable[[], Any] | None = None, close_fds: bool = True, shell: bool = False,
    cwd: Path | None = None, env: Environment | None = None, universal_newlines: bool | None = None,
    startupinfo: Any = None, creationflags: int = 0, restore_signals: bool = True, start_new_session: bool = False,
    pass_fds: Collection[int] = (), *, text: bool | None = None, encoding: str | None = None, errors: str | None = None,
    user: str | int | None = None, group: str | int | None = None, extra_groups: Iterable[str | int] | None = None,
    umask: int = -1, pipesize: int = -1, process_group: int | None = None, timeout: float | None = None,
    linger: float | None = None, job: _Job | None = None, backend: str | None = None, require: Iterable[str] = (),
    kill_on_close: bool | None = None,
) -> int:
    """As `subprocess.check_call`, with the promises of run(); `timeout` and `linger` in seconds."""
    raise NotImplementedError  # see _run.py
