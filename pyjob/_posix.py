"""How `Popen` starts and drains a program on POSIX: `subprocess`'s own rules around the native start."""

from __future__ import annotations

import contextlib
import errno
import operator
import os
import select
import subprocess
import sys
import time

from . import _native
from ._arguments import Request
from .errors import translated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import IO, Any

    from ._signatures import Path
    from .popen import Popen

assert sys.platform != "win32"

from . import _guard, _owner  # noqa: E402  # a type checker that looks for Windows goes no further than the line above

OWN_READERS = False  # communicate() keeps what it has read so far

_SHELL = "/system/bin/sh" if hasattr(sys, "getandroidapilevel") else "/bin/sh"

# The C library's `environ` is copied with the GIL held: only that keeps another thread's os.putenv() from freeing it.
_FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()

_Base = subprocess.Popen  # whatever others put in its place

# Before this mark was introduced, every step in the child but exec was blamed on `cwd`.
_BLAMES_STEP = "noexec:chdir" in getattr(_Base, "_execute_child").__code__.co_consts  # noqa: B009


def start(process: Popen[Any], request: Request, native: _native.Job) -> str:
    """Starts the program in the job and tells how."""
    if request.preexec_fn is not None:
        return _start_by_fork(process, request, native)
    args, executable = _command(request.args, request.executable, request.shell)
    sys.audit("subprocess.Popen", executable, args, request.cwd, request.env)
    spec = _spec(request, args, executable)
    _refuse_closed(process, request)
    try:
        with translated:
            pid, code, stage, path = native.spawn(*spec)
    except OSError as error:
        raise as_stock(error) from None
    finally:
        process._close_pipe_fds(*request.fds)  # type: ignore[attr-defined]
    if code:
        process.returncode = 255  # what stock's child left with
        raise _refusal(code, stage, executable, request.cwd)
    process.pid = pid
    return path


def _start_by_fork(process: Popen[Any], request: Request, native: _native.Job) -> str:
    """With preexec_fn: the base class forks this Python, and the child enters the job before it calls the function.

    Pipes, directory, umask and signals are set by the base class before that; what would shut the child out of its job
    (another user), or tie the guard to the program (a session), by us after it.
    """
    spec = _spec(request, *_command(request.args, request.executable, request.shell))
    _refuse_closed(process, request)
    if process._guarded:
        with translated:
            native.guard_prepare(*spec)
    gid, gids, uid = _id(request.gid, "gid"), _group_ids(request.gids), _id(request.uid, "uid")
    preexec_fn = request.preexec_fn
    # A process group is joined last: its leader could not call setsid(), which is what most of these functions are for.
    join_last = native.backend == "process-group"
    errors_in, errors_out = os.pipe()

    def enter() -> None:
        failing = True  # whose failure it is: ours, or preexec_fn's
        try:
            if process._guarded:
                _leave_to_guard(native)
            if request.start_new_session:
                os.setsid()
            if request.process_group >= 0:
                os.setpgid(0, request.process_group)
            if not process._guarded and not join_last:
                native.join()
            if gids is not None:
                os.setgroups(gids)
            if gid is not None:
                os.setregid(gid, gid)
            if uid is not None:
                os.setreuid(uid, uid)
            if preexec_fn is not None:
                failing = False
                preexec_fn()
                failing = True
            if join_last:
                native.join()
        except OSError as error:
            if failing:
                os.write(errors_out, str(error.errno).encode())
            raise

    _owner._joining.add(native)
    try:
        _base_execute(process, request, enter)
    except subprocess.SubprocessError:
        os.close(errors_out)
        errors_out = -1
        code = os.read(errors_in, 16)
        if code:
            raise _refusal(int(code), "", "", request.cwd) from None
        raise
    finally:
        _owner._joining.discard(native)
        os.close(errors_in)
        if errors_out != -1:
            os.close(errors_out)
    if process._guarded:
        _adopted(process, native)
    return "fork"


def _refuse_closed(process: Popen[Any], request: Request) -> None:
    """As stock's child does, before anything else; also STDOUT in the place of a descriptor."""
    if request.closed:
        process.returncode = 255  # what stock's child left with
        raise _refusal(errno.EBADF, "fcntl", "", request.cwd)


def _leave_to_guard(native: _native.Job) -> None:
    """In the child: three come of it, one that ends here, the guard, and the guard's child, which returns."""
    if os.fork():
        os._exit(0)  # so that the guard is nobody's child
    code = native.guard_exec()
    if code:
        raise OSError(code, os.strerror(code))


def _adopted(process: Popen[Any], native: _native.Job) -> None:
    """The child that the base class knows has only made way for a guard, which tells of the program."""
    process._child_created = False
    with contextlib.suppress(ChildProcessError):  # somebody else's os.wait() was faster
        os.waitpid(process.pid, 0)
    with translated:
        pid, _, _, _ = native.guard_finish()
    process.pid = pid


def _base_execute(process: Popen[Any], request: Request, preexec_fn: Callable[[], None]) -> None:
    group = (-1,) if sys.version_info >= (3, 11) else ()
    _Base._execute_child(  # type: ignore[attr-defined]
        process,
        request.args,
        request.executable,
        preexec_fn,
        request.close_fds,
        request.pass_fds,
        request.cwd,
        request.env,
        None,
        0,
        request.shell,
        *request.fds,
        request.restore_signals,
        None,
        None,
        None,
        request.umask,
        False,
        *group,
    )


def _command(args: Any, executable: Path | None, shell: bool) -> tuple[list[Any], Any]:
    """The argument list, and what is to be executed."""
    if isinstance(args, os.PathLike) and shell:
        raise TypeError("path-like args is not allowed when shell is true")
    words: list[Any] = [args] if isinstance(args, (str, bytes, os.PathLike)) else list(args)
    if shell:
        words = [executable or _SHELL, "-c", *words]
    return words, words[0] if executable is None else executable


def _spec(request: Request, args: list[Any], executable: Path) -> tuple[Any, ...]:
    """The arguments of the native start, converted in the order in which `subprocess` would refuse them."""
    environ = _environ() if request.env is None and _FREE_THREADED else request.env
    env = None if environ is None else _environment(environ)
    program = os.fsencode(executable)
    if os.path.dirname(program):
        candidates = [program]
    else:
        candidates = [os.path.join(os.fsencode(folder), program) for folder in os.get_exec_path(request.env)]
    kept = _kept_fds(request.pass_fds)
    _no_nul(candidates)
    argv = [os.fsencode(word) for word in args]
    _no_nul(argv)
    if env is not None:
        _no_nul(env)
    cwd = None if request.cwd is None else os.fsencode(request.cwd)
    if cwd is not None:
        _no_nul((cwd,))
    return (
        argv,
        candidates,
        env,
        cwd,
        bool(request.close_fds),
        kept,
        request.fds,
        _flag(request.restore_signals),
        _flag(request.start_new_session),
        request.process_group,
        _id(request.gid, "gid"),
        _group_ids(request.gids),
        _id(request.uid, "uid"),
        request.umask,
    )


def _environ() -> Mapping[bytes, bytes]:
    while True:
        with contextlib.suppress(KeyError):  # taken out by another thread since its name was seen
            return os.environb.copy()


def _environment(env: Mapping[Any, Any]) -> list[bytes]:
    pairs: list[bytes] = []
    for key, value in env.items():
        name = os.fsencode(key)
        if b"=" in name:
            raise ValueError("illegal environment variable name")
        pairs.append(name + b"=" + os.fsencode(value))
    return pairs


def _kept_fds(pass_fds: Any) -> list[int]:
    kept = sorted(map(int, set(pass_fds)))
    if not kept:
        return kept
    if kept[0] < 0 or kept[-1] > 2**31 - 1 or len(set(kept)) < len(kept):
        raise ValueError("bad value(s) in fds_to_keep")
    return kept


def _flag(value: Any) -> bool:
    return bool(value) if sys.version_info >= (3, 12) else operator.index(value) != 0


def _group_ids(gids: list[int] | None) -> list[int] | None:
    if gids is not None and len(gids) > os.sysconf("SC_NGROUPS_MAX"):
        raise ValueError("too many groups" if sys.version_info < (3, 12) else "too many extra_groups")
    if gids is not None and any(gid >= 2**32 for gid in gids):
        raise ValueError("invalid group id")
    return gids


def _id(value: int | None, what: str) -> int | None:
    """In the words of CPython's own conversion, in which what fits a long is only too small."""
    if value is not None and value >= 2**32:
        raise OverflowError(f"{what} is {'less than minimum' if value < 2**63 else 'greater than maximum'}")
    return value


def _no_nul(texts: Any) -> None:
    for text in texts:
        if b"\0" in text:
            raise ValueError("embedded null byte")


def as_stock(error: OSError) -> OSError:
    """The same refusal in `subprocess`'s words; the attribute `call` still names the system call."""
    call = getattr(error, "call", None)
    if call is None or error.errno is None:
        return error
    text = os.strerror(error.errno)
    # Whether the program can be executed is told otherwise: this is about the guard.
    plain = OSError(error.errno, text, _guard.PATH) if call.startswith("execve") else OSError(error.errno, text)
    plain.call = call  # type: ignore[attr-defined]
    return plain


def _refusal(code: int, stage: str, executable: Path, cwd: Path | None) -> OSError:
    """Why the child could not become the program; the attribute `call` names what was refused."""
    error = _stock_refusal(code, stage, executable, cwd)
    if stage:
        error.call = "execve" if stage == "exec" else stage  # type: ignore[attr-defined]
    return error


def _stock_refusal(code: int, stage: str, executable: Path, cwd: Path | None) -> OSError:
    if stage == "exec":
        culprit: Path | None = executable
    else:
        culprit = cwd if stage == "chdir" or not _BLAMES_STEP else None
    if culprit is None and _BLAMES_STEP:
        return OSError(code, os.strerror(code))
    return OSError(code, os.strerror(code), culprit)


# -- reading what is left, and reading with an end --------------------------------------------------------------------


def drain(file: IO[Any] | None, seconds: float) -> bytes:
    """What the pipe holds now. Waits for nothing; a stranger that goes on writing is listened to for `seconds`."""
    if file is None or file.closed:
        return b""
    chunks: list[bytes] = []
    until = time.monotonic() + seconds
    poll = select.poll()
    poll.register(file.fileno(), select.POLLIN)
    while poll.poll(0) and time.monotonic() < until:
        chunk = os.read(file.fileno(), 65536)
        if not chunk:
            break
        chunks.append(chunk)
    return b"".join(chunks)


def _pidfd(process: Popen[Any]) -> int:
    """Readable when the program has ended; its PID is not recycled before it was collected. -1: poll instead."""
    pidfd_open: Callable[[int], int] | None = getattr(os, "pidfd_open", None)
    if process.returncode is not None or pidfd_open is None:
        return -1
    try:
        return pidfd_open(process.pid)
    except OSError:
        return -1


def take_rest(process: Popen[Any], expired: subprocess.TimeoutExpired, seconds: float) -> None:
    """Adds to the exception what the pipes still hold."""
    expired.stdout = ((expired.stdout or b"") + drain(process.stdout, seconds)) or expired.stdout
    expired.stderr = ((expired.stderr or b"") + drain(process.stderr, seconds)) or expired.stderr


class Exchange:
    """`communicate()` that need not see the end of file: it can stop some time after the program's exit."""

    def __init__(self, process: Popen[Any], input: Any) -> None:
        self._process = process
        self._chunks: dict[int, list[bytes]] = {}
        self._reading: dict[int, IO[Any]] = {}
        self._input = memoryview(b"")
        self._pidfd = _pidfd(process)
        for file in (process.stdout, process.stderr):
            if file is not None:
                self._chunks[id(file)] = []
                self._reading[file.fileno()] = file
        if process.stdin is not None:
            if isinstance(input, str):
                stdin: Any = process.stdin
                input = input.encode(stdin.encoding, stdin.errors)
            self._input = memoryview(input or b"").cast("B")
            if not self._input:
                self._close_input()

    def run(self, deadline: float | None, linger: float) -> float:
        """Reads until all pipes have ended, or `linger` seconds after the exit; returns the time of the exit.

        TimeoutError when `deadline` (monotonic) came first.
        """
        exited = None
        while True:
            now = time.monotonic()
            if exited is None and self._process.poll() is not None:
                exited = now
            if exited is not None and (not self._reading or now - exited >= linger):
                return exited
            if deadline is not None and now >= deadline:
                raise TimeoutError
            ends = [now + (0.02 if self._pidfd < 0 else 1.0)]
            if deadline is not None:
                ends.append(deadline)
            if exited is not None:
                ends.append(exited + linger)
            self._step(max(min(ends) - now, 0.0))

    def _step(self, seconds: float) -> None:
        poll = select.poll()
        for fd in self._reading:
            poll.register(fd, select.POLLIN)
        if self._pidfd >= 0 and self._process.returncode is None:
            poll.register(self._pidfd, select.POLLIN)
        stdin = self._process.stdin
        if self._input and stdin is not None and not stdin.closed:
            poll.register(stdin.fileno(), select.POLLOUT)
        for fd, _ in poll.poll(seconds * 1000):
            if fd in self._reading:
                self._read(fd)
            elif fd != self._pidfd:
                self._write(fd)

    def _read(self, fd: int) -> None:
        chunk = os.read(fd, 65536)
        if chunk:
            self._chunks[id(self._reading[fd])].append(chunk)
        else:
            self._reading.pop(fd).close()

    def _write(self, fd: int) -> None:
        try:
            self._input = self._input[os.write(fd, self._input[: select.PIPE_BUF]) :]
        except BrokenPipeError:
            self._input = memoryview(b"")
        if not self._input:
            self._close_input()

    def _close_input(self) -> None:
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
        except BrokenPipeError:
            pass  # as communicate()

    def drain(self, seconds: float) -> None:
        """Takes what the pipes hold now, and closes them."""
        for file in self._reading.values():
            self._chunks[id(file)].append(drain(file, seconds))
            file.close()
        self._reading.clear()

    def close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def raw(self, file: IO[Any] | None) -> bytes | None:
        return None if file is None else b"".join(self._chunks[id(file)])

    def result(self, file: IO[Any] | None) -> Any:
        data = self.raw(file)
        if data is None or file is None or not self._process.universal_newlines:
            return data
        text: Any = file
        return data.decode(text.encoding, text.errors).replace("\r\n", "\n").replace("\r", "\n")
