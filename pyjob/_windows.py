"""How `Popen` starts and drains a program on Windows: `subprocess`'s own rules around the native start."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import warnings

from . import _native
from ._arguments import Request
from .errors import translated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import IO, Any

    from .popen import Popen

assert sys.platform == "win32"
import _winapi  # noqa: E402


def start(process: Popen[Any], request: Request, native: _native.Job) -> str:
    """Starts the program in the job and tells how."""
    assert not request.pass_fds, "pass_fds not supported on Windows."
    command_line = _command_line(request.args, request.shell)
    executable = None if request.executable is None else os.fsdecode(request.executable)
    info = subprocess.STARTUPINFO() if request.startupinfo is None else request.startupinfo.copy()
    flags, show = info.dwFlags, info.wShowWindow
    std = _standard_handles(request)
    if std is not None:
        flags |= _winapi.STARTF_USESTDHANDLES
    elif flags & _winapi.STARTF_USESTDHANDLES:
        std = int(info.hStdInput or 0), int(info.hStdOutput or 0), int(info.hStdError or 0)
    handles, inherit = _handle_list(process, request, info, std)
    if request.shell:
        flags |= _winapi.STARTF_USESHOWWINDOW
        show = _winapi.SW_HIDE
        executable, command_line = _through_shell(executable, command_line)
    cwd = None if request.cwd is None else os.fsdecode(request.cwd)
    sys.audit("subprocess.Popen", executable, command_line, cwd, request.env)
    try:
        env = None if request.env is None else _environment_block(request.env)
        _no_nul(executable, command_line, cwd)
        sys.audit("_winapi.CreateProcess", executable, command_line, cwd)
        with translated:
            started = native.spawn_windows(
                executable,
                command_line,
                env,
                cwd,
                not inherit,
                handles,
                std,
                flags,
                show,
                int(request.creationflags),
                inherit,
            )
    except OSError as error:
        raise as_stock(error) from None
    finally:
        process._close_pipe_fds(*request.fds)  # type: ignore[attr-defined]
    handle, thread, process.pid, _, path = started
    process._handle = subprocess.Handle(handle)  # type: ignore[attr-defined]
    _winapi.CloseHandle(thread)
    return path


def _command_line(args: Any, shell: bool) -> str:
    if isinstance(args, str):
        return args
    if isinstance(args, bytes):
        if shell:
            raise TypeError("bytes args is not allowed on Windows")
        return subprocess.list2cmdline([args])
    if isinstance(args, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        args = [args]
    return subprocess.list2cmdline(args)


def _through_shell(executable: str | None, command_line: str) -> tuple[str | None, str]:
    """An unqualified cmd.exe would be looked for in the current directory before the system's."""
    shell = executable
    if not shell:
        shell = os.environ.get("COMSPEC")
        if not shell:
            shell = os.path.join(os.environ.get("SYSTEMROOT", ""), "System32", "cmd.exe")
            if not os.path.isabs(shell):
                raise FileNotFoundError("shell not found: neither %ComSpec% nor %SystemRoot% is set")
        if os.path.isabs(shell):
            executable = shell
    return executable, f'{shell} /c "{command_line}"'


def _standard_handles(request: Request) -> tuple[int, int, int] | None:
    p2cread, _, _, c2pwrite, _, errwrite = request.fds
    if -1 in (p2cread, c2pwrite, errwrite):
        return None
    return int(p2cread), int(c2pwrite), int(errwrite)


def _handle_list(
    process: Popen[Any], request: Request, info: Any, std: tuple[int, ...] | None
) -> tuple[list[int] | None, bool]:
    """The handles to inherit, None for all that can be, and whether any are."""
    piped = _standard_handles(request) is not None
    attributes: dict[str, Any] = info.lpAttributeList or {}
    given: list[int] = list(attributes.get("handle_list") or [])
    if not given and not (piped and request.close_fds):
        return None, not request.close_fds
    if piped and std is not None:
        given += std
    keep: Callable[[list[int]], list[int]] = getattr(process, "_filter_handle_list")  # noqa: B009
    handles = keep(given)
    if not handles:
        return None, not request.close_fds
    if not request.close_fds:
        warnings.warn("startupinfo.lpAttributeList['handle_list'] overriding close_fds", RuntimeWarning, stacklevel=2)
    return handles, True


def _environment_block(env: Mapping[Any, Any]) -> str:
    """ "A=1\0B=2\0\0", refused in the words of _winapi.CreateProcess."""
    block: list[str] = []
    for key, value in zip(env.keys(), env.values(), strict=True):
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError("environment can only contain strings")
        if "\0" in key or "\0" in value:
            raise ValueError("embedded null character")
        if not key or "=" in key[1:]:
            raise ValueError("illegal environment variable name")
        block.append(f"{key}={value}\0")
    return "".join(block) + ("\0" if block else "\0\0")


def _no_nul(*texts: str | None) -> None:
    if any(text is not None and "\0" in text for text in texts):
        raise ValueError("embedded null character")


def as_stock(error: OSError) -> OSError:
    """The same refusal in `subprocess`'s words; the attribute `call` still names the system call."""
    call = getattr(error, "call", None)
    code: int | None = getattr(
        error, "winerror", None
    )  # typeshed has it as an int, which it is only where one is known
    if call is None or code is None:
        return error
    text = str(error.strerror).removesuffix(f" ({call})").rstrip(". \r\n")
    plain = OSError(0, text, None, code, None)
    plain.call = call  # type: ignore[attr-defined]
    return plain


# -- reading what is left, and reading with an end --------------------------------------------------------------------


OWN_READERS = True  # those of communicate() hand over nothing before the pipe's end


class _Reader(threading.Thread):
    """Reads a pipe to its end and keeps what came: a pipe of Windows cannot be polled together with others."""

    def __init__(self, file: IO[Any]) -> None:
        super().__init__(daemon=True)
        self.file = file
        self.chunks: list[bytes] = []

    def run(self) -> None:
        try:
            while chunk := os.read(self.file.fileno(), 65536):
                self.chunks.append(chunk)
        except OSError:
            pass  # the other end is gone


class Exchange:
    """`communicate()` that need not see the end of file: it can stop some time after the program's exit."""

    def __init__(self, process: Popen[Any], input: Any) -> None:
        self._process = process
        self._readers = [_Reader(file) for file in (process.stdout, process.stderr) if file is not None]
        self._writer: threading.Thread | None = None
        for reader in self._readers:
            reader.start()
        if process.stdin is not None:
            self._writer = threading.Thread(target=process._stdin_write, args=(input,), daemon=True)  # type: ignore[attr-defined]
            self._writer.start()

    def run(self, deadline: float | None, linger: float) -> float:
        """Reads until all pipes have ended, or `linger` seconds after the exit; returns the time of the exit.

        TimeoutError when `deadline` (monotonic) came first.
        """
        try:
            self._process.wait(None if deadline is None else max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        exited = time.monotonic()
        until = exited + linger if deadline is None else min(exited + linger, deadline)
        self._join(min(until, time.monotonic() + threading.TIMEOUT_MAX / 2))
        if deadline is not None and until == deadline and any(reader.is_alive() for reader in self._readers):
            raise TimeoutError
        return exited

    def _join(self, until: float) -> None:
        for reader in self._readers:
            reader.join(max(until - time.monotonic(), 0.0))

    def drain(self, seconds: float) -> None:
        """Takes what the pipes hold now. One whose end a stranger withholds stays open, with its reader."""
        self._join(time.monotonic() + seconds)
        for reader in self._readers:
            if not reader.is_alive():
                reader.file.close()

    def close(self) -> None:
        pass

    def raw(self, file: IO[Any] | None) -> bytes | None:
        return next((b"".join(reader.chunks) for reader in self._readers if reader.file is file), None)

    def result(self, file: IO[Any] | None) -> Any:
        data = self.raw(file)
        if data is None or file is None or not self._process.universal_newlines:
            return data
        text: Any = file
        return data.decode(text.encoding, text.errors).replace("\r\n", "\n").replace("\r", "\n")


def take_rest(process: Popen[Any], expired: subprocess.TimeoutExpired, seconds: float) -> None:
    """Adds to the exception what the pipes still hold; decoded in text mode, as subprocess.run() does here."""
    exchange = process._exchange
    if exchange is not None:
        exchange.drain(seconds)
        expired.stdout, expired.stderr = exchange.result(process.stdout), exchange.result(process.stderr)
