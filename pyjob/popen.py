"""`subprocess.Popen`, except that the tree obeys.

A `Popen` has a private job in which its program starts. Whatever is not about that job is left to `subprocess.Popen`,
of which it is a subclass.
"""

from __future__ import annotations

import os
import subprocess
import sys
from _weakref import ref  # as job.py
from collections import deque
from subprocess import TimeoutExpired

from . import _arguments, _check, _native
from . import job as _job
from ._arguments import Request
from .errors import JobClosedError, SurvivorsError, translated
from .job import Job

if sys.platform == "win32":
    from . import _windows as _platform
else:
    from . import _posix as _platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from types import TracebackType
    from typing import Any, AnyStr, Literal, overload

    from ._signatures import Command, Environment, File, Path
else:
    AnyStr = bytes  # only for a subscript; to import typing would double the time of the import

__all__ = ["Popen"]

_KILL_SECONDS = 5.0  # as Job.kill()


class Popen(subprocess.Popen[AnyStr]):
    """`subprocess.Popen` in a job.

    job             a Job that the program, and all it starts, shall be members of
    backend         as for Job; not together with a job on another backend
    require         guarantees that must hold; UnsupportedError when they cannot
    kill_on_close   whether what is left of the tree is killed when the private job is closed, and when this process
                    ends, however it ends; by default as `job` has it, else true

    All other arguments, attributes and methods are those of `subprocess.Popen`, and so are the exceptions, but: kill()
    ends the whole tree; leaving a `with` block closes the private job. A Popen that is dropped kills nothing. How the
    program is born inside is told at `Job.popen()`.
    """

    # Read by methods of a half-made object, too.
    _private: Job | None = None  # None: not made yet, or given back as nobody lived in it any more
    _shown = False  # somebody looked at `job`: it stays open
    _collects = False  # the exit status comes from the native job
    _guarded = False  # the program is a child of its guard, not ours
    _how: tuple[Job | None, bool | None, str | None, int]  # as Job._for_program() takes it
    _group_wanted = -1  # process_group, where the base class does not know it
    _remembered = False  # is among _unsettled
    _given_back: Job | None = None  # closed, but what it was can be read from it
    _exchange: Any = None  # of run(), where it reads by itself
    _left = False  # by the end of a `with` block
    _owner = 0  # PID of who started it
    _path = ""  # how it was started: "clone3", "vfork", "guard", "fork", "job-list"

    if TYPE_CHECKING:  # as typeshed has it. One for each argument that turns on text mode, for binary mode, for neither
        # fmt: off
        @overload
        def __init__(
            self: Popen[str], args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None,
            stdout: File = None, stderr: File = None, preexec_fn: Callable[[], Any] | None = None,
            close_fds: bool = True, shell: bool = False, cwd: Path | None = None, env: Environment | None = None,
            universal_newlines: bool | None = None, startupinfo: Any = None, creationflags: int = 0,
            restore_signals: bool = True, start_new_session: bool = False, pass_fds: Collection[int] = (), *,
            text: Literal[True], encoding: str | None = None, errors: str | None = None, user: str | int | None = None,
            group: str | int | None = None, extra_groups: Iterable[str | int] | None = None, umask: int = -1,
            pipesize: int = -1, process_group: int | None = None, job: Job | None = None, backend: str | None = None,
            require: Iterable[str] = (), kill_on_close: bool | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: Popen[str], args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None,
            stdout: File = None, stderr: File = None, preexec_fn: Callable[[], Any] | None = None,
            close_fds: bool = True, shell: bool = False, cwd: Path | None = None, env: Environment | None = None,
            universal_newlines: bool | None = None, startupinfo: Any = None, creationflags: int = 0,
            restore_signals: bool = True, start_new_session: bool = False, pass_fds: Collection[int] = (), *,
            text: bool | None = None, encoding: str, errors: str | None = None, user: str | int | None = None,
            group: str | int | None = None, extra_groups: Iterable[str | int] | None = None, umask: int = -1,
            pipesize: int = -1, process_group: int | None = None, job: Job | None = None, backend: str | None = None,
            require: Iterable[str] = (), kill_on_close: bool | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: Popen[str], args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None,
            stdout: File = None, stderr: File = None, preexec_fn: Callable[[], Any] | None = None,
            close_fds: bool = True, shell: bool = False, cwd: Path | None = None, env: Environment | None = None,
            universal_newlines: bool | None = None, startupinfo: Any = None, creationflags: int = 0,
            restore_signals: bool = True, start_new_session: bool = False, pass_fds: Collection[int] = (), *,
            text: bool | None = None, encoding: str | None = None, errors: str, user: str | int | None = None,
            group: str | int | None = None, extra_groups: Iterable[str | int] | None = None, umask: int = -1,
            pipesize: int = -1, process_group: int | None = None, job: Job | None = None, backend: str | None = None,
            require: Iterable[str] = (), kill_on_close: bool | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: Popen[str], args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None,
            stdout: File = None, stderr: File = None, preexec_fn: Callable[[], Any] | None = None,
            close_fds: bool = True, shell: bool = False, cwd: Path | None = None, env: Environment | None = None, *,
            universal_newlines: Literal[True], startupinfo: Any = None, creationflags: int = 0,
            restore_signals: bool = True, start_new_session: bool = False, pass_fds: Collection[int] = (),
            text: bool | None = None, encoding: str | None = None, errors: str | None = None,
            user: str | int | None = None, group: str | int | None = None,
            extra_groups: Iterable[str | int] | None = None, umask: int = -1, pipesize: int = -1,
            process_group: int | None = None, job: Job | None = None, backend: str | None = None,
            require: Iterable[str] = (), kill_on_close: bool | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: Popen[bytes], args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None,
            stdout: File = None, stderr: File = None, preexec_fn: Callable[[], Any] | None = None,
            close_fds: bool = True, shell: bool = False, cwd: Path | None = None, env: Environment | None = None,
            universal_newlines: Literal[False] | None = None, startupinfo: Any = None, creationflags: int = 0,
            restore_signals: bool = True, start_new_session: bool = False, pass_fds: Collection[int] = (), *,
            text: Literal[False] | None = None, encoding: None = None, errors: None = None,
            user: str | int | None = None, group: str | int | None = None,
            extra_groups: Iterable[str | int] | None = None, umask: int = -1, pipesize: int = -1,
            process_group: int | None = None, job: Job | None = None, backend: str | None = None,
            require: Iterable[str] = (), kill_on_close: bool | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: Popen[Any], args: Command, bufsize: int = -1, executable: Path | None = None, stdin: File = None,
            stdout: File = None, stderr: File = None, preexec_fn: Callable[[], Any] | None = None,
            close_fds: bool = True, shell: bool = False, cwd: Path | None = None, env: Environment | None = None,
            universal_newlines: bool | None = None, startupinfo: Any = None, creationflags: int = 0,
            restore_signals: bool = True, start_new_session: bool = False, pass_fds: Collection[int] = (), *,
            text: bool | None = None, encoding: str | None = None, errors: str | None = None,
            user: str | int | None = None, group: str | int | None = None,
            extra_groups: Iterable[str | int] | None = None, umask: int = -1, pipesize: int = -1,
            process_group: int | None = None, job: Job | None = None, backend: str | None = None,
            require: Iterable[str] = (), kill_on_close: bool | None = None,
        ) -> None: ...
        # fmt: on

    def __init__(
        self,
        args: Any,
        bufsize: int = -1,
        executable: Any = None,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        preexec_fn: Callable[[], Any] | None = None,
        close_fds: bool = True,
        shell: bool = False,
        cwd: Any = None,
        env: Mapping[Any, Any] | None = None,
        universal_newlines: bool | None = None,
        startupinfo: Any = None,
        creationflags: int = 0,
        restore_signals: bool = True,
        start_new_session: bool = False,
        pass_fds: Any = (),
        *,
        user: str | int | None = None,
        group: str | int | None = None,
        extra_groups: Iterable[str | int] | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        text: bool | None = None,
        umask: int = -1,
        pipesize: int = -1,
        process_group: int | None = None,
        job: Job | None = None,
        backend: str | None = None,
        require: Iterable[str] = (),
        kill_on_close: bool | None = None,
    ) -> None:
        self._how = _arguments.place(job, backend, require, kill_on_close)
        more: dict[str, Any] = {}
        if sys.version_info >= (3, 11):
            more["process_group"] = process_group
            if sys.flags.warn_default_encoding and encoding is None and (errors or text or universal_newlines):
                encoding = _arguments.text_encoding()
        elif process_group is not None:
            self._group_wanted = process_group
        super().__init__(
            args,
            bufsize,
            executable,
            stdin,
            stdout,
            stderr,
            preexec_fn,
            close_fds,
            shell,
            cwd,
            env,
            universal_newlines,
            startupinfo,
            creationflags,
            restore_signals,
            start_new_session,
            pass_fds,
            user=user,
            group=group,
            extra_groups=extra_groups,
            encoding=encoding,
            errors=errors,
            text=text,
            umask=umask,
            pipesize=pipesize,
            **more,
        )

    def _execute_child(
        self,
        args: Any,
        executable: Any,
        preexec_fn: Callable[[], Any] | None,
        close_fds: bool,
        pass_fds: Any,
        cwd: Any,
        env: Any,
        startupinfo: Any,
        creationflags: int,
        shell: bool,
        p2cread: Any,
        p2cwrite: Any,
        c2pread: Any,
        c2pwrite: Any,
        errread: Any,
        errwrite: Any,
        restore_signals: bool,
        gid: int | None,
        gids: list[int] | None,
        uid: int | None,
        umask: int,
        start_new_session: bool,
        process_group: int = -1,
    ) -> None:
        """Called by the base class with all arguments checked and all pipes open."""
        if _unsettled:
            _look_back()
        request = Request(
            args=args,
            executable=executable,
            preexec_fn=preexec_fn,
            close_fds=close_fds,
            pass_fds=pass_fds,
            cwd=cwd,
            env=env,
            startupinfo=startupinfo,
            creationflags=creationflags,
            shell=shell,
            fds=(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite),
            restore_signals=restore_signals,
            gid=gid,
            gids=gids,
            uid=uid,
            umask=umask,
            start_new_session=start_new_session,
            process_group=process_group if self._group_wanted == -1 else self._group_wanted,
        )
        self._private = private = self._make_job()
        self._collects = private._core.collects
        self._guarded = private.backend == "reaper"
        self._owner = os.getpid()
        try:
            self._path = _platform.start(self, request, private._core)
        except BaseException:
            self.__dict__.pop("_private", None)
            _give_back(private, kill=True)
            raise
        self._child_created = True

    def _make_job(self) -> Job:
        return Job._for_program(*self._how)

    # -- the job ------------------------------------------------------------------------------------------------------

    @property
    def job(self) -> Job:
        """The private job. It is closed by a `with` block, or with this object; `job.parent` is the one given."""
        self._shown = True  # before looking: see _settle()
        private = self._private
        if private is not None:
            return private
        try:
            made = self._make_job()  # its tree ended, and it was given back; an empty one is as good
        except JobClosedError:
            if self._given_back is None:
                raise
            return self._given_back  # the job around it is closed as well
        private = self.__dict__.setdefault("_private", made)
        if private is not made or self._left:
            _give_back(made, kill=False)
        return private

    def kill(self) -> None:
        """Ends the program and all it has started, and returns when they are dead; safe after the program's exit.

        SurvivorsError names those who live on after 5 s. cgroup.kill, SIGKILL by pidfd, TerminateJobObject.
        """
        survivors = self._kill_tree(_KILL_SECONDS)
        if survivors:
            raise SurvivorsError(survivors)

    def _kill_tree(self, seconds: float) -> list[int]:
        private = self._private
        if private is None:
            return []
        self._must_own()
        try:
            return private._core.kill(seconds)
        except _native.ClosedError as error:
            if self.poll() is None:  # else it was closed meanwhile, and so killed already
                raise JobClosedError(str(error)) from None
            return []

    def _must_own(self) -> None:
        """In a fork of the owner nothing is ours to end, though poll() says, as stock's would, that all has ended."""
        if self._owner != os.getpid():
            raise JobClosedError("the program was started by the process that this one was forked from")

    if sys.platform == "win32":

        def terminate(self) -> None:
            """As on every Windows program, kill()."""
            self.kill()

    def stop(self, grace: float = 10.0) -> None:
        """Asks the program and all it has started to end, waits up to `grace` seconds, then kill(). See Job.stop()."""
        limit = _check.seconds(grace, "grace")
        private = self._private
        if private is None:
            return
        self._must_own()
        try:
            private.stop(limit)
        except JobClosedError:
            if self.poll() is None:
                raise

    def send_signal(self, sig: int) -> None:
        """Sends a signal to the program alone, not to what it has started.

        Nothing happens when it has ended; OSError when refused. kill(2) of the uncollected PID, pidfd_send_signal(2).
        """
        if not self._guarded:
            super().send_signal(sig)
            return
        private = self._private
        if self.poll() is not None or private is None:
            return
        try:
            with translated:
                private._core.signal_program(sig)
        except ProcessLookupError:
            pass  # it ended between the two
        except OSError as error:
            raise _platform.as_stock(error) from None

    # -- the exit status ----------------------------------------------------------------------------------------------

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        if self.returncode is None:
            if self._collects:
                self._poll_native(_deadstate)
            if not self._collects:
                super()._internal_poll(_deadstate)  # type: ignore[misc]
        if self.returncode is not None:
            self._settle()
        return self.returncode

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            if self._collects:
                self._wait_native(timeout)
            if not self._collects:
                super()._wait(timeout=timeout)  # type: ignore[misc]
        self._settle()
        return self.returncode

    # Without the base class's lock: a signal handler may wait for the program in the midst of a wait for it, and the
    # native collect() gives every thread the same status.

    def _poll_native(self, _deadstate: int | None) -> None:
        try:
            returncode = self._collect(0.0)
        except OSError:
            returncode = _deadstate
        if returncode is not None:
            self.returncode = returncode

    def _wait_native(self, timeout: float | None) -> None:
        seconds = None if timeout is None else max(float(timeout), 0.0)
        if seconds is not None and seconds != seconds:
            seconds = None  # to NaN seconds stock's wait has no end
        returncode = self._collect(seconds)
        if returncode is not None:
            self.returncode = returncode
        elif timeout is not None and self.returncode is None and self._collects:
            raise TimeoutExpired(self.args, timeout)

    def _collect(self, timeout: float | None) -> int | None:
        """None: not within the timeout; or `_collects` holds no longer. A status that nobody knows is 0."""
        private = self._private
        if private is None:
            return 0
        try:
            return private._core.collect(timeout)
        except (ChildProcessError, _native.ClosedError) as error:
            if not self._guarded:
                self._collects = False  # nobody but us will collect it now: as in stock, os.waitpid() knows, or nobody
                return None
            if isinstance(error, ChildProcessError) or os.getpid() != self._owner or not private._kills():
                return 0
            return -9  # whoever closed the job killed first

    # -- letting go ---------------------------------------------------------------------------------------------------

    def __del__(self) -> None:
        super().__del__()
        if self._private is not None and self.returncode is None:
            # The base class keeps us until the program ends (subprocess._active): the job around must not be kept, too.
            self._private._loosen()
            self._how = (None, *self._how[1:])

    def _settle(self, _ending: Any = sys.is_finalizing) -> None:
        """Gives the private job back as soon as nobody lives in it: a finished Popen holds no descriptor."""
        private = self._private
        if private is None or self._shown or _ending():  # then this module may be cleared already
            return
        try:
            empty = private._core.wait(0.0)
        except (OSError, _native.ClosedError):
            return
        if not empty:
            if not self._remembered:
                self._remembered = True
                _unsettled.append(ref(self))
            return
        self._given_back = private
        if self.__dict__.pop("_private", None) is None:
            return  # another thread was faster
        if self._shown and self.__dict__.setdefault("_private", private) is private:
            return  # somebody came to look at it just now
        _give_back(private, kill=False)

    def __exit__(
        self, exc_type: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            super().__exit__(exc_type, value, traceback)
        except BaseException as error:
            self._close_job(error)
            raise
        self._close_job(value)

    def _close_job(self, under_way: BaseException | None) -> None:
        """Closes the private job; a failure never replaces an exception under way."""
        self._left = True
        private = self._private
        if private is None:
            return
        try:
            if self.returncode is None and self._collects and private._kills():
                private._core.kill(_KILL_SECONDS)  # only the job knows the exit status, so it is asked before it closes
                self.poll()
            private.close()
        except (OSError, _native.ClosedError) as error:
            if under_way is None:
                raise
            _job._note(under_way, f"closing the job failed as well: {error}")


# Popens whose program has ended while its tree lives on. Each start looks at a few of them: their jobs are given back
# when the trees have ended, even if nobody asks the Popen again.
_unsettled: deque[ref[Popen[Any]]] = deque()


def _look_back() -> None:
    for _ in range(min(len(_unsettled), 4)):
        try:
            process = _unsettled.popleft()()
        except IndexError:
            return
        if process is not None:
            process._remembered = False
            process._settle()


def _give_back(private: Job, kill: bool) -> None:
    private._core.close(kill, 0.0)  # where that fails it stays open, and ends with this process
    _job._open.pop(id(private), None)
