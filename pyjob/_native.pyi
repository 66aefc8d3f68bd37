"""The binding of the native core (csrc/py). Policy lives above it, in job.py, popen.py and process.py."""

import sys
from collections.abc import Sequence
from typing import final

GUARANTEES: dict[str, int]  # name -> bit, in the order of the contract's table
BACKENDS: tuple[str, ...]  # of this platform, in ladder order

class ClosedError(Exception): ...  # job.py turns it into JobClosedError
class UnsupportedReason(Exception): ...  # args[0]: one sentence

# An OS refusal is an OSError with errno (winerror) whose filename2 is None and whose attribute `call` names the system
# call: OSError(errno, "strerror (call)"), made in csrc/py/raise.c.

def probe(backend: str, guard: str) -> tuple[bool, int, str, str]: ...  # available, guarantee bits, why not, what helps

@final
class Job:
    backend: str
    parent: Job | None
    holds_caller: bool
    denied: int  # guarantee bits that this job has lost
    keep: bool
    closed: bool
    collects: bool  # the program's exit status comes from collect(), not from os.waitpid()
    @classmethod
    def create(cls, backend: str, parent: Job | None, name: str | None, keep: bool, guard: str) -> Job: ...
    @classmethod
    def open(cls, backend: str, name: str) -> Job: ...
    def pids(self) -> list[int]: ...
    def contains(self, process: Process) -> bool: ...
    def contains_pid(self, pid: int) -> bool: ...  # pins, asks, unpins; False for a PID that nobody has
    def walk(self) -> object: ...  # what pin() learns from one PID to the next
    # Pinned first, verified after; None when it is no living member.
    def pin(self, pid: int, walk: object = ...) -> Process | None: ...
    def signal(self, sig: int) -> None: ...
    def kill(self, timeout: float | None) -> list[int]: ...  # survivors
    def wait(self, timeout: float | None) -> bool: ...  # True: empty
    def collect(self, timeout: float | None) -> int | None: ...  # returncode; None: the deadline passed
    def signal_program(self, sig: int) -> None: ...  # to the pinned program of spawn(); only without own_child
    def assign(self, process: Process) -> None: ...
    def assign_self(self) -> None: ...
    def release(self) -> None: ...
    # Marks it closed, wakes the waiters, lets running starts end, kills if asked (timeout 0: without waiting), lets go.
    # Returns survivors. Idempotent. In a forked child: abandons.
    def close(self, kill: bool, timeout: float) -> list[int]: ...
    if sys.platform == "win32":
        # (process handle, thread handle, pid, tid, path)
        def spawn_windows(
            self,
            application: str | None,
            command_line: str,
            env: str | None,  # a block: "A=1\0B=2\0\0"
            cwd: str | None,
            close_fds: bool,
            handles: Sequence[int] | None,  # lpAttributeList["handle_list"]
            std: tuple[int, int, int] | None,  # hStdInput, hStdOutput, hStdError; None: no STARTF_USESTDHANDLES
            flags: int,  # STARTUPINFO.dwFlags
            show: int,  # STARTUPINFO.wShowWindow
            creation: int,  # dwCreationFlags
            inherit: bool,
        ) -> tuple[int, int, int, int, str]: ...
    else:
        # (pid, errno, stage, path): errno 0 when it runs; stage "exec", "chdir", another call or "" names what failed
        # in the child; path "clone3", "vfork" or "guard" tells how it was started.
        def spawn(
            self,
            argv: Sequence[bytes],
            executables: Sequence[bytes],
            env: Sequence[bytes] | None,
            cwd: bytes | None,
            close_fds: bool,
            pass_fds: Sequence[int],
            fds: tuple[int, int, int, int, int, int],  # p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite
            restore_signals: bool,
            start_new_session: bool,
            process_group: int,  # -1: none
            gid: int | None,
            groups: Sequence[int] | None,
            uid: int | None,
            umask: int,  # -1: unchanged
        ) -> tuple[int, int, str, str]: ...
        # Without own_child, for preexec_fn: spawn() in three steps. guard_prepare takes spawn()'s arguments;
        # guard_exec, called in a grandchild that the caller forked, executes the guard or returns an errno;
        # guard_finish returns what spawn() does.
        def guard_prepare(
            self,
            argv: Sequence[bytes],
            executables: Sequence[bytes],
            env: Sequence[bytes] | None,
            cwd: bytes | None,
            close_fds: bool,
            pass_fds: Sequence[int],
            fds: tuple[int, int, int, int, int, int],
            restore_signals: bool,
            start_new_session: bool,
            process_group: int,
            gid: int | None,
            groups: Sequence[int] | None,
            uid: int | None,
            umask: int,
        ) -> None: ...
        def guard_exec(self) -> int: ...
        def guard_finish(self) -> tuple[int, int, str, str]: ...
        # Called in a child of subprocess's own fork path (preexec_fn): moves the calling process in. Not on reaper.
        def join(self) -> None: ...

@final
class Process:
    """A pinned process."""

    pid: int
    create_time: float
    identity: tuple[int, int]  # pid, creation identity
    pinned: bool  # by a pidfd or handle; False below Linux 5.3 and on macOS
    def __new__(cls, pid: int) -> Process: ...
    def is_alive(self) -> bool: ...
    def send_signal(self, sig: int) -> None: ...
    def wait(self, timeout: float | None) -> tuple[bool, int | None]: ...  # ended, status where known
    def close(self) -> None: ...
    def children(self, recursive: bool) -> list[int]: ...
    def kill_tree(self, include_root: bool, timeout: float) -> tuple[list[int], list[int], bool]: ...  # 3rd: all dead

def forked() -> None: ...  # after os.fork() in the child; registered by the module itself
