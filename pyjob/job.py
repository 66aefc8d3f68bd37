"""`Job`: policy over the native job. What is promised, who owns, what happens at close, drop, fork and exit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from _weakref import ref  # what `weakref` adds to it is not needed, and takes time to import
from itertools import repeat

from . import _check, _guard, _native, guarantees, process
from ._owner import _close_if_empty as _close_if_empty
from ._owner import _enclosing as _enclosing
from ._owner import _hand_over, _lies_in, _live
from ._owner import _kept as _kept
from ._owner import _note as _note
from ._owner import _open as _open
from ._owner import _quietly as _quietly
from .errors import JobClosedError, SurvivorsError, UnsupportedError, translated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Any, NoReturn

    from typing_extensions import Self

    from ._signatures import ProcessLike
    from ._signatures import Starts as _Starts
    from .guarantees import Guarantees
    from .process import ProcessHandle

else:
    _Starts = object

__all__ = ["Job"]

_CLOSE_SECONDS = 5.0  # how long close() waits for members to die

_DIES_WITH_OWNER = _native.GUARANTEES["dies_with_owner"]
_ATOMIC_KILL = _native.GUARANTEES["atomic_kill"]
_ASSIGN = _native.GUARANTEES["assign"]
_NAMED = _native.GUARANTEES["named"]


class Job(_Starts):
    """A set of processes that can only grow by its members' own children, and that ends as one.

    name            a name that this user's other processes can `Job.open()`; needs the guarantee `named`
    kill_on_close   the members end with the job: at close(), and however the owner ends
    backend         one of those that `backends()` lists; by default the first available
    require         guarantees that must hold; UnsupportedError when no available backend has them
    limits          reserved

    Made of mkdir(2) in the caller's group (cgroups(7)), of a guard for each program, or of CreateJobObjectW.
    FileExistsError for a name in use; what the system refuses is the OSError that it is, and its attribute `call` names
    the system call.

    Use it as a context manager: leaving the block closes the job. All methods can be called from any thread; those
    that wait release the GIL, can be interrupted by Ctrl-C, and take a timeout of 0 for "look once". In a process
    forked from the owner every method but close() raises JobClosedError.
    """

    __slots__ = ("__weakref__", "_above", "_bits", "_core", "_name", "_opened", "_parent", "_private", "_required")

    _core: _native.Job
    _name: str | None
    _parent: Job | None  # what keeps it alive
    _above: ref[Job] | None  # which one it is
    _bits: int | None  # of the backend; None: not looked at yet
    _required: int
    _opened: bool  # by name: somebody else owns it
    _private: bool  # belongs to a Popen

    def __init__(
        self,
        name: str | None = None,
        *,
        kill_on_close: bool = True,
        backend: str | None = None,
        require: Iterable[str] = (),
        limits: None = None,
    ) -> None:
        if limits is not None:
            raise ValueError("limits is reserved and can only be None")
        if name is not None:
            name = _check.name(name)
        wanted = guarantees.required_bits(require)
        self._private = False
        try:
            self._create(name, None, kill_on_close, guarantees.check_backend(backend), wanted)
        except FileExistsError as error:
            error.filename = name
            raise

    @classmethod
    def _for_program(
        cls,
        parent: Job | None,
        kill_on_close: bool | None,
        backend: str | None,
        wanted: int,
    ) -> Job:
        """The private job of a Popen, inside `parent` if there is one. When it is dropped it ends with this process.

        kill_on_close=None: as the parent's. What else is given was checked before.
        """
        self = Job.__new__(Job)
        self._private = True
        self._create(None, parent, kill_on_close, backend, wanted)
        return self

    def _create(
        self,
        name: str | None,
        parent: Job | None,
        kill_on_close: bool | None,
        backend: str | None,
        wanted: int,
    ) -> None:
        if parent is not None:
            parent._must_own("start programs in")
            if kill_on_close is None:
                kill_on_close = not parent._core.keep
        keep = kill_on_close is not None and not kill_on_close
        if keep and wanted & _DIES_WITH_OWNER:
            raise ValueError("dies_with_owner cannot be required with kill_on_close=False")
        self._name = name
        self._required = wanted
        self._opened = False
        needed = wanted | (_NAMED if name is not None else 0)
        self._parent = around = parent if parent is not None else _surrounding(backend, needed)
        self._above = None if around is None else ref(around)
        if around is None:
            self._core, self._bits = guarantees.create(backend, needed, name, keep)
        else:
            self._bits = around._look() if needed else around._bits
            if self._bits is not None and needed & ~self._bits:
                raise guarantees.unsupported(around.backend, needed)
            with translated:
                self._core = _native.Job.create(around.backend, around._core, name, keep, _guard.PATH)
        _open[id(self)] = ref(self)

    @classmethod
    def open(cls, name: str) -> Self:
        """Somebody else's job, by name: to list, check, signal, stop, kill and wait, not to start or assign.

        FileNotFoundError when there is none, ValueError for what can be no name (1 to 100 bytes, no path),
        UnsupportedError without a backend that has names. OpenJobObjectW; on Linux open(2) of the leaf. Closing it, or
        dropping it, does nothing to the members.
        """
        name = _check.name(name)
        for backend in _native.BACKENDS:
            bits = guarantees.bits_of(backend)
            if bits & _NAMED:
                self = cls.__new__(cls)
                self._name = name
                self._parent = self._above = None
                self._bits = bits
                self._required = 0
                self._opened = True
                self._private = False
                try:
                    with translated:
                        self._core = _native.Job.open(backend, name)
                except FileNotFoundError as error:
                    error.filename = name
                    raise
                _open[id(self)] = ref(self)
                return self
        raise guarantees.unsupported(None, _NAMED)

    # -- what it is; readable also after close() ----------------------------------------------------------------------

    @property
    def name(self) -> str | None:
        """The name by which it can be opened, or None."""
        return self._name

    @property
    def parent(self) -> Job | None:
        """The job that this one lies in: the one given, or the one that this process had entered by assign_self()."""
        return self._parent if self._parent is not None or self._above is None else self._above()

    def _loosen(self) -> None:
        """Its Popen was dropped while the program runs: that must not keep the job around it alive."""
        self._parent = None

    @property
    def backend(self) -> str:
        """What it is made of: the name of one of the `backends()`."""
        return self._core.backend

    @property
    def closed(self) -> bool:
        """True after close(), and in a process forked from the owner."""
        return self._core.closed

    @property
    def guarantees(self) -> Guarantees:
        """What holds for this job now: what its backend promises, less what the job gave up."""
        bits = self._look() & ~self._core.denied
        if self._core.keep:
            bits &= ~_DIES_WITH_OWNER
        if self._holds_caller():
            bits &= ~_ATOMIC_KILL
        return guarantees.from_bits(bits)

    def _look(self) -> int:
        """The backend's bits, probed once."""
        if self._bits is None:
            self._bits = guarantees.bits_of(self._core.backend)
        return self._bits

    def _holds_caller(self) -> bool:
        return self._core.holds_caller or any(self in job._ancestors() for job in _enclosing.copy())

    def _ancestors(self) -> list[Job]:
        found: list[Job] = []
        above = self.parent
        while above is not None:
            found.append(above)
            above = above.parent
        return found

    def __reduce__(self) -> NoReturn:
        raise TypeError("a job cannot be copied or pickled: it has one owner")

    def __repr__(self) -> str:
        native = getattr(self, "_core", None)
        if native is None:
            return "<pyjob.Job, not made>"
        named = f" {self._name!r}" if self._name is not None else ""
        return f"<pyjob.Job{named} on {native.backend}{', closed' if native.closed else ''}>"

    # -- starting and taking in ---------------------------------------------------------------------------------------

    if not TYPE_CHECKING:  # checkers are told by _Starts

        def popen(self, args: Any, **kwargs: Any) -> Any:
            """Starts a program in this job; the arguments are those of `subprocess.Popen`.

            It is born inside: clone3(2) with CLONE_INTO_CGROUP, a guard that is the subreaper (prctl(2)), or
            PROC_THREAD_ATTRIBUTE_JOB_LIST (UpdateProcThreadAttribute). JobClosedError when the job is closed,
            UnsupportedError for one that was opened by name; else what `subprocess.Popen` raises.
            """
            from .popen import Popen

            return Popen(args, job=self, **kwargs)

        def run(self, args: Any, **kwargs: Any) -> Any:
            """Runs a program in this job to its end; the arguments are those of `subprocess.run`.

            Started as by Job.popen(), with all that `pyjob.run` promises and raises; `timeout` and `linger` in seconds.
            """
            from ._run import run

            return run(args, job=self, **kwargs)

    def assign(self, process_: ProcessLike, /) -> None:
        """Moves a running process in; what it started before stays where it is.

        Takes a PID or anything with `.pid`. The process is pinned, moved and looked at again, so that a recycled PID
        comes to no harm. ProcessLookupError when it has ended, UnsupportedError without the guarantee `assign`,
        PermissionError for a process that we may not move. cgroup.procs (cgroups(7)), AssignProcessToJobObject.
        """
        number = _check.pid(process_)
        self._must_own("move processes into")
        if number == os.getpid() and process.pin(process_).is_alive():  # else a handle that is closed, or not of us
            self.assign_self()
            return
        if not self._look() & _ASSIGN:
            raise UnsupportedError(f"{self.backend} cannot move a running process into a job")
        pinned = process.pin(process_)
        with translated:
            self._core.assign(pinned)

    def assign_self(self) -> None:
        """Makes the calling process a member: whatever it starts from here on is one too.

        The job is held until close() or exit. kill(), stop() and wait() leave the calling process out. On `cgroup` and
        `job-object` the process enters the job; on `reaper` it becomes the subreaper of its descendants (prctl(2)), and
        `dies_with_owner` and `atomic_kill` no longer hold. UnsupportedError where that cannot be done, or where it
        would lower a guarantee that was required.
        """
        self._must_own("move processes into")
        lost = _ATOMIC_KILL | (_DIES_WITH_OWNER if self.backend == "reaper" else 0)
        if self._required & lost:
            refused = " and ".join(guarantees.from_bits(self._required & lost))
            raise UnsupportedError(f"{self.backend} cannot promise {refused} while the caller is a member")
        with translated:
            self._core.assign_self()
        if self not in _enclosing:
            _enclosing.append(self)

    def _must_own(self, what: str) -> None:
        if self._opened:
            raise UnsupportedError(f"only its owner can {what} a job; this one was opened by name")
        if self._core.closed:
            raise JobClosedError("the job is closed")

    # -- looking ------------------------------------------------------------------------------------------------------

    def pids(self) -> list[int]:
        """The living members, sorted; the caller too if it is one. Zombies are not living.

        From cgroup.procs (cgroups(7)), /proc/PID/stat (proc_pid_stat(5)), or QueryInformationJobObject. JobClosedError
        when the job is closed.
        """
        with translated:
            return self._core.pids()

    def members(self) -> Iterator[ProcessHandle]:
        """The living members as handles, each pinned first and verified after: safe to act on.

        Lazily: a handle is opened when the loop comes to it, and closed when the last reference to it goes, so that
        5,000 members need two descriptors at a time. Keep a handle and it stays open; `close()` lets go of it earlier.
        Who ended meanwhile is left out. pidfd_open(2), OpenProcess. OSError (EMFILE) when too many are kept.
        """
        pids = self.pids()[::-1]  # what follows holds no handle itself, as a generator's variables would
        return filter(None, map(self._pin_next, repeat(pids), repeat(self._core.walk())))

    def _pin_next(self, pids: list[int], walk: object) -> ProcessHandle | None:
        try:
            pid = pids.pop()  # threads may share the walk, and without a GIL a list's iterator gives some a PID twice
        except IndexError:
            raise StopIteration from None
        with translated:
            native = self._core.pin(pid, walk)
        return None if native is None else process.ProcessHandle._wrap(native)

    def __contains__(self, process_: object, /) -> bool:
        """Whether a PID, a ProcessHandle or anything with `.pid` is a living member.

        The process is pinned first: PIDFD_GET_INFO (ioctl_pidfd(2)) or /proc/PID/cgroup, its ancestors by
        /proc/PID/stat, or IsProcessInJob. JobClosedError when the job is closed; who has ended is no member.
        """
        try:
            if isinstance(process_, int):
                return self._core.contains_pid(_check.pid(process_))
            _check.pid(process_)
            try:
                return self._core.contains(process.pin(process_))  # type: ignore[arg-type]
            except ProcessLookupError:
                return False
        except _native.ClosedError as error:
            raise JobClosedError(str(error)) from None

    # -- acting -------------------------------------------------------------------------------------------------------

    def send_signal(self, sig: int) -> None:
        """Sends a signal to each member once, pinned and verified, in one pass; not to the calling process.

        Whom we may not signal is passed over. pidfd_send_signal(2); on Windows SIGTERM is TerminateProcess, other
        signals GenerateConsoleCtrlEvent. ValueError for a number that is no signal, JobClosedError when closed.
        """
        number = _check.signal_number(sig)
        with translated:
            self._core.signal(number)

    def stop(self, grace: float = 10.0) -> None:
        """Asks the members to end (SIGTERM, then SIGCONT), waits up to `grace` seconds, then kill().

        On Windows CTRL_BREAK goes to the programs that were started with CREATE_NEW_PROCESS_GROUP, and WM_CLOSE to
        members' windows. SurvivorsError as from kill(); pidfd_send_signal(2), GenerateConsoleCtrlEvent.
        """
        limit = _check.seconds(grace, "grace")
        with translated:
            if sys.platform == "win32":
                from . import _ask_windows

                self._core.signal(signal.CTRL_BREAK_EVENT)  # reaches only leaders of groups that we started
                _ask_windows.close_windows(self._core)
            else:
                self._core.signal(signal.SIGTERM)
                self._core.signal(signal.SIGCONT)
            if self._core.wait(limit):
                return
        self.kill()

    def kill(self, timeout: float | None = 5.0) -> None:
        """Ends every member but the calling process, and returns when they are dead.

        Those alive after `timeout` seconds (None: no end) are named by SurvivorsError. cgroup.kill, SIGKILL by pidfd,
        TerminateJobObject.
        """
        limit = _check.timeout(timeout)
        with translated:
            survivors = self._core.kill(limit)
        if survivors:
            raise SurvivorsError(survivors)

    def wait(self, timeout: float | None = None) -> None:
        """Waits until no member but the calling process lives; subprocess.TimeoutExpired after `timeout` seconds.

        Wakes with JobClosedError when another thread closes the job. Polls cgroup.events (cgroups(7)) or a guard's
        socket; on Windows a completion port, and the handles of the members.
        """
        limit = _check.timeout(timeout)
        with translated:
            empty = self._core.wait(limit)
        if self._core.closed:  # it was close() that emptied it
            raise JobClosedError("the job was closed meanwhile")
        if not empty:
            raise subprocess.TimeoutExpired(f"job {self._name}" if self._name else "job", limit or 0.0)

    # -- letting go ---------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Gives up ownership without killing: the members, those of jobs inside this one too, outlive this process.

        The job can be used on until close(), which kills nobody then. UnsupportedError for one that was opened by name,
        JobClosedError when it is closed. Clears JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE (SetInformationJobObject); elsewhere
        it tells the guard.
        """
        self._must_own("release")
        for job in _live():
            if job is not self and self in job._ancestors() and not job.closed:
                with translated:
                    job._core.release()
        for native in _kept.copy():
            if _lies_in(native, self._core) and not native.closed:
                with translated:
                    native.release()
        with translated:
            self._core.release()

    def close(self) -> None:
        """Ends the job: with kill_on_close kills the members (up to 5 s), then lets go of all it holds. Idempotent.

        A caller inside survives and returns to its former place where the system allows. SurvivorsError, raised after
        everything was released, names those who could not be ended. After any other exception that leaves members
        alive, or might, the job is still open, and close() can be called again. A job opened by name just lets go.
        cgroup.kill and rmdir(2), SIGKILL by pidfd, TerminateJobObject.
        """
        native = self._core
        try:
            survivors = native.close(self._kills(), _CLOSE_SECONDS)
        finally:
            if native.closed:
                _open.pop(id(self), None)
                if self in _enclosing:
                    _enclosing.remove(self)
        if survivors:
            raise SurvivorsError(survivors)

    def _kills(self) -> bool:
        return not self._opened and not self._core.keep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as error:
            if value is None:
                raise
            _note(value, f"closing the job failed as well: {error}")

    # What it needs is bound here: at the end of the interpreter the module's variables may be gone.
    def __del__(
        self, _warn: Any = warnings.warn, _open: Any = _open, _kept: Any = _kept, _ending: Any = sys.is_finalizing
    ) -> None:
        _open.pop(id(self), None)  # first: a signal handler's exception may have kept close() from it
        native = getattr(self, "_core", None)
        if native is None or native.closed:  # closed: also in a forked child, where nothing happens
            return
        if self._private:
            if _ending():
                _kept.add(native)  # not freed before the jobs around it, which may still be closed
            else:
                _hand_over(native)
            return
        if not self._opened:
            _warn(f"unclosed job {self!r}", ResourceWarning, source=self)
        try:
            native.close(self._kills(), 0)
        finally:
            if not native.closed:
                _kept.add(native)  # its members end with this process


def _surrounding(backend: str | None, needed: int) -> Job | None:
    """The job that this process entered, as parent of a new one: whatever this process starts is a member of it."""
    for job in reversed(_enclosing.copy()):
        if job.closed or backend not in (None, job.backend) or job.backend == "job-object":
            continue  # Windows nests by inheritance: what a member starts is in the member's jobs
        if needed & ~job._look():
            continue
        return job
    return None
