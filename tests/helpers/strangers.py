"""A PID namespace full of innocents, in which something hunts members: tests/stress, see strangers.c.

Test side: `Arena(folder, program, "kill", "cgroup")` starts the namespace with the innocents, and two drivers, one as
it is and one whose system calls strace stretches, each of which does the same thing to members again and again.
`.run(seconds)` lets them, and returns the `Count`.

Program: `python strangers.py FUNCTION BACKEND SLOT`, a driver; $STRANGERS is the shared file, $STRANGERS_MEMBER the
member. Functions whose name begins with `naive_` do what everybody does; they are there to be caught.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]
from helpers.leftovers import members, own_cgroup  # noqa: E402
from helpers.procs import eventually, pid_max_is_per_namespace  # noqa: E402

WORDS = ["stop", "drain", "innocents", "forced", "hits", "members"]
OPERATIONS = len(WORDS)  # and one more, a word for each driver
VICTIMS = OPERATIONS + 2
MOST_VICTIMS = 16
SIZE = 4 * (VICTIMS + 3 * MOST_VICTIMS + 1 + 256)
PID_MAX = 700  # near the floor of 301; the kernel starts again at 300, and our own need some 150 at a time
STRETCHED = "pidfd_open,pidfd_send_signal,kill,tkill,tgkill,rt_sigqueueinfo"
DELAY = 15000  # microseconds
PATIENCE = 60.0  # seconds; what a loaded machine may take


class Shared:
    def __init__(self, path: str | os.PathLike[str]) -> None:
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), SIZE)

    def get(self, word: int) -> int:
        return int(struct.unpack_from("=I", self.map, 4 * word)[0])

    def set(self, word: int, value: int) -> None:
        struct.pack_into("=I", self.map, 4 * word, value)

    def __getattr__(self, name: str) -> int:
        if name not in WORDS:
            raise AttributeError(name)
        return self.get(WORDS.index(name))

    @property
    def operations(self) -> tuple[int, int]:
        return self.get(OPERATIONS), self.get(OPERATIONS + 1)

    def victims(self) -> list[str]:
        found = []
        for at in range(min(self.hits, MOST_VICTIMS)):
            pid, status, forced = (self.get(VICTIMS + 3 * at + part) for part in range(3))
            if os.WIFSIGNALED(status):
                what = f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
            elif os.WIFSTOPPED(status):
                what = "stopped"
            else:
                what = {99: "continued", 98: "its child was hit"}.get(os.WEXITSTATUS(status), f"status {status:#x}")
            found.append(f"{pid} {what}{', had a member' + chr(39) + 's PID' if forced else ''}")
        return found


# ---- the tests' side


def means_missing() -> str:
    """Why there can be no arena here, or ""."""
    namespace = ["unshare", "-pf", "--mount-proc", "--kill-child"]
    for need in (
        ["strace", "-qqq", "-o", os.devnull, "-e", "trace=kill", "true"],
        [*namespace, "sh", "-c", "echo 300 > /proc/sys/kernel/ns_last_pid"],
    ):
        result = subprocess.run(need, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if result.returncode:
            return f"{' '.join(need)}: {result.stderr.strip()}"
    return ""


def compile_program(folder: Path) -> Path:
    source = Path(__file__).with_name("strangers.c")
    program = folder / "strangers"
    subprocess.run(["cc", "-O1", "-o", str(program), str(source)], check=True)
    return program


@dataclass(frozen=True)
class Count:
    seconds: float
    innocents: int
    forced: int
    hits: int
    members: int
    operations: tuple[int, int]
    victims: list[str]
    code: int | None
    log: str

    def __str__(self) -> str:
        text = (
            f"{self.hits} of {self.innocents} innocents hit, {self.forced} of whom had a member's PID; "
            f"{self.members} members, {self.operations[0]} operations plain and {self.operations[1]} stretched, "
            f"{self.seconds:.1f} s; ended with {self.code}"
        )
        return "\n  ".join([text, *self.victims, *self.log.splitlines()])


class Arena:
    def __init__(self, folder: Path, program: Path, function: str, backend: str) -> None:
        (folder / "shared").write_bytes(bytes(SIZE))
        self.folder = folder
        self.shared = Shared(folder / "shared")
        self.cgroup = self._make_cgroup()
        driver = [sys.executable, str(Path(__file__).resolve()), function, backend]
        calls = STRETCHED + (",write" if "assign" in function else "")
        # Members run free but where the guard is to be stretched, which is no child of the driver's.
        strace = [str(shutil.which("strace")), "-qqq", "-o", os.devnull, *(["-f"] if "guard" in function else [])]
        strace += ["-e", f"trace={calls}", "-e", f"inject={calls}:delay_enter={DELAY}"]
        pid_max = PID_MAX if pid_max_is_per_namespace() else 0
        init = [str(program), "init", str(pid_max), *driver, "0", "--", *strace, *driver, "1"]
        env = {**os.environ, "STRANGERS": str(folder / "shared"), "STRANGERS_MEMBER": str(program)}
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "-pf", "--mount-proc", "--kill-child", *init],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=self._enter,
            )

    def _make_cgroup(self) -> Path | None:
        own = own_cgroup()
        if own is None or not os.access(own, os.W_OK):
            return None
        made = own / f"strangers-{os.getpid()}-{time.monotonic_ns()}"
        made.mkdir()
        return made

    def _enter(self) -> None:
        if self.cgroup:
            (self.cgroup / "cgroup.procs").write_text("0")

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def count(self, seconds: float) -> Count:
        shared = self.shared
        return Count(
            seconds,
            shared.innocents,
            shared.forced,
            shared.hits,
            shared.members,
            shared.operations,
            shared.victims(),
            self.process.poll(),
            self.log,
        )

    def run(self, seconds: float, enough: Callable[[Count], bool], patience: float = PATIENCE) -> Count:
        """For so many seconds at least, and until it was enough; then everybody has to end: Count.code 0."""
        begin = time.monotonic()
        while True:
            time.sleep(0.05)
            passed = time.monotonic() - begin
            if self.process.poll() is not None or passed > seconds + patience:
                break
            if passed >= seconds and enough(self.count(passed)):
                break
        self.shared.set(0, 1)
        try:  # where somebody was hit, so may anybody have been whom the end depends on
            self.process.wait(2 * PATIENCE if self.shared.hits == 0 else 5)
        except subprocess.TimeoutExpired:
            pass
        return self.count(time.monotonic() - begin)

    def close(self) -> None:
        self.process.kill()  # and with it, by --kill-child, PID 1 and the whole namespace
        self.process.wait()
        self.shared.map.close()
        if not self.cgroup:
            return
        kill = self.cgroup / "cgroup.kill"
        if kill.exists():
            kill.write_text("1")
        cgroup = self.cgroup
        eventually(lambda: not members(cgroup), message=f"{cgroup} is not empty")
        for folder, _, _ in os.walk(cgroup, topdown=False):
            os.rmdir(folder)


# ---- the program: a driver

MEMBER = os.environ.get("STRANGERS_MEMBER", "")
LIFE = 20000  # milliseconds: nothing lasts for ever
FUNCTIONS: dict[str, Callable[[str], None]] = {}
gone = contextlib.suppress(ProcessLookupError)


def function(made: Callable[[str], None]) -> Callable[[str], None]:
    FUNCTIONS[made.__name__] = made
    return made


def command(life: int = LIFE, width: int = 4) -> list[str]:
    return [MEMBER, "member", str(life), str(width)]


def pause(least: float, most: float) -> None:
    """Milliseconds."""
    time.sleep(random.uniform(least, most) / 1000)


@contextlib.contextmanager
def reaped_by_others(programs: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Each as soon as it has ended, whatever we are at."""
    started = []
    try:
        for one in programs:
            thread = threading.Thread(target=one.wait)
            thread.start()
            started.append(thread)
        yield
    finally:
        for thread in started:
            thread.join()


def reap_all() -> None:
    """Orphans that came to us while we were a subreaper, and starts whose Popen was dropped."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@contextlib.contextmanager
def populated(backend: str, inside: bool = False, programs: int = 2) -> Iterator[Any]:
    import pyjob

    with pyjob.Job(backend=backend) as job:
        if inside:
            job.assign_self()
        started = [job.popen(command()) for _ in range(programs)]
        pause(5, 30)
        try:
            yield job
        finally:
            job.kill(PATIENCE)
            for one in started:
                one.wait()
                one.job.close()


@contextlib.contextmanager
def interrupted() -> Iterator[None]:
    """Signals of our own, whose handler takes its time: blocking calls get EINTR, and are resumed much later."""

    def handler(*_: object) -> None:
        time.sleep(random.choice([0, 0.012]))
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.001, 0.01))  # not before: no handler inside a handler

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.004)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_stretched() -> bool:
    return sys.argv[3] == "1"


def short_lives(count: int) -> list[subprocess.Popen[bytes]]:
    """They end when handles of all of them have just been made, or a little before or after."""
    made = 30 * count if is_stretched() else 0  # two calls for each
    return [subprocess.Popen(command(made + random.randint(1, 60), 0)) for _ in range(count)]


def perhaps_interrupted() -> Any:
    """Not where every call takes long anyway: that would hardly get on."""
    return contextlib.nullcontext() if is_stretched() or random.random() < 0.5 else interrupted()


def may_enter(backend: str) -> bool:
    return backend != "process-group" and random.random() < 0.5


@function
def kill(backend: str) -> None:
    with populated(backend, may_enter(backend)) as job, perhaps_interrupted():
        job.kill(PATIENCE)
    reap_all()


@function
def stop(backend: str) -> None:
    import pyjob

    with populated(backend, may_enter(backend)) as job, contextlib.suppress(pyjob.SurvivorsError):
        job.stop(grace=random.choice([0, 0.02, 0.1]))  # not within 5 s, on a busy machine: kill() again has more time
    reap_all()


def wake(stopped: list[Any]) -> None:
    """Who left its process group in the moment of its SIGSTOP is in no job: nobody else would ever wake it."""
    for member in stopped:
        with gone:
            member.send_signal(signal.SIGCONT)


@function
def send_signal(backend: str) -> None:
    stopped: list[Any] = []
    with populated(backend, may_enter(backend)) as job:
        for sig in random.choices([signal.SIGUSR1, signal.SIGSTOP, signal.SIGCONT, signal.SIGTERM], k=3):
            if sig == signal.SIGSTOP:
                stopped += job.members()
            job.send_signal(sig)
        job.send_signal(signal.SIGCONT)
    wake(stopped)
    reap_all()


@function
def members_act(backend: str) -> None:
    stopped = []
    with populated(backend) as job:
        for sig in (signal.SIGUSR1, signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL):
            for member in job.members():
                with gone:
                    member.send_signal(sig)
                    assert member.pid not in (1, os.getpid())
                    if sig == signal.SIGSTOP:
                        stopped.append(member)
    wake(stopped)


@function
def popen(backend: str) -> None:
    """The program alone, then its tree, while it ends by itself."""
    import pyjob

    with pyjob.Popen(command(random.randint(1, 40)), backend=backend) as program:
        for _ in range(random.randint(1, 5)):
            program.send_signal(signal.SIGUSR1)
            pause(0, 10)
        if random.random() < 0.5:
            program.terminate()
        if random.random() < 0.5:
            program.wait()
        program.send_signal(signal.SIGUSR1)
        program.kill()


@function
def kill_tree(backend: str) -> None:
    import pyjob

    program = subprocess.Popen(command(random.choice([LIFE, 40, 60, 80])))
    root = pyjob.ProcessHandle(program.pid)
    with reaped_by_others([program]), perhaps_interrupted(), root:
        pause(5, 30)
        if random.random() < 0.3:
            with contextlib.suppress(pyjob.SurvivorsError):  # there is no end of them while the root forks on
                pyjob.kill_tree(root, include_root=False, timeout=0.1)
        pyjob.kill_tree(root, timeout=PATIENCE)
    assert program.returncode in (-signal.SIGKILL, 0)


@function
def handle(backend: str) -> None:
    """A handle outlives its process, whose PID is an innocent's by then."""
    import pyjob

    programs = short_lives(4)
    handles = [pyjob.ProcessHandle(one.pid) for one in programs]
    with reaped_by_others(programs):
        while any(one.returncode is None for one in programs):
            for one in handles:
                with gone:
                    one.send_signal(random.choice([signal.SIGUSR1, signal.SIGSTOP, signal.SIGCONT]))
                    one.send_signal(signal.SIGCONT)
            pause(0, 2)
    for one in handles:
        one.wait(PATIENCE)
        assert not one.is_alive()
        with gone:
            one.send_signal(signal.SIGUSR1)
            raise AssertionError("the dead took a signal")
        one.kill()
        one.close()


@function
def assign(backend: str) -> None:
    """Processes that end, and are reaped, while they are moved; signals and the job's end meanwhile, from here and from
    another process."""
    import pyjob

    done = threading.Event()
    name = f"strangers-{os.stat('/proc/self/ns/pid').st_ino}-{os.getpid()}"

    def signals() -> None:
        while not done.wait(0.001):
            job.send_signal(signal.SIGUSR1)
            job.kill(PATIENCE)

    with pyjob.Job(name, backend=backend) as job, opened_by_another(name):
        other = threading.Thread(target=signals)
        other.start()
        try:
            for _ in range(4):
                for one in assigned(job):
                    assert one not in job
                    one.close()
        finally:
            done.set()
            other.join()


def assigned(job: Any) -> list[Any]:
    import pyjob

    programs = short_lives(3)
    handles = [pyjob.ProcessHandle(one.pid) for one in programs]
    with reaped_by_others(programs):
        for one in handles:
            with gone:
                job.assign(one)
    return handles


@contextlib.contextmanager
def opened_by_another(name: str) -> Iterator[None]:
    import pyjob

    opener = os.fork()
    if opener == 0:
        try:
            with pyjob.Job.open(name) as job:
                while True:
                    job.send_signal(signal.SIGUSR1)
                    with contextlib.suppress(pyjob.SurvivorsError):
                        job.kill(0.05)
        finally:
            traceback.print_exc()
            os._exit(1)
    try:
        yield
    finally:
        os.kill(opener, signal.SIGKILL)
        os.waitpid(opener, 0)


@function
def assign_guard(backend: str) -> None:
    """The owner is killed while it assigns: its guard ends the members, and puts out who was moved and not seen yet."""
    import pyjob

    owner = os.fork()
    if owner == 0:
        try:
            with pyjob.Job(backend=backend) as job:
                while True:
                    for one in assigned(job):
                        one.close()
        finally:  # also where there were too many processes
            os._exit(0)
    pause(30, 300)
    os.kill(owner, signal.SIGKILL)
    os.waitpid(owner, 0)


@function
def guard(backend: str) -> None:
    """The owner is killed; whoever ends its members then is the guard."""
    import pyjob

    ready, told = os.pipe()
    watched = [os.pipe() for _ in range(2)]
    owner = os.fork()
    if owner == 0:
        try:
            jobs = [pyjob.Job(backend=backend) for _ in range(2)]
            kept = [job.popen(command(), pass_fds=[pipe[1]]) for job, pipe in zip(jobs, watched, strict=True)]
            os.write(told, b"x")
            time.sleep(PATIENCE)
            print(kept, file=sys.stderr)
        except BlockingIOError:  # too many processes
            os.write(told, b"-")
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    os.close(told)
    for _, end in watched:
        os.close(end)
    try:
        answer = os.read(ready, 1)
        if answer == b"-":
            raise BlockingIOError(errno.EAGAIN, "too many processes for the owner")
        assert answer == b"x", "the owner could not start its members"
        pause(0, 30)
        os.kill(owner, signal.SIGKILL)
        for end, _ in watched:
            assert os.read(end, 1) == b""  # nobody holds the other end: all who could are dead
    finally:
        os.waitpid(owner, 0)
        for descriptor in (ready, *(end for end, _ in watched)):
            os.close(descriptor)


# ---- what everybody does


def below(pid: int) -> list[int]:
    """Descendants by parent PIDs, as ps shows them."""
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as file:
            parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


@function
def naive_list(backend: str) -> None:
    with populated(backend) as job:
        for pid in job.pids():
            with gone:
                os.kill(pid, signal.SIGKILL)


@function
def naive_tree(backend: str) -> None:
    with subprocess.Popen(command(width=8)) as program:
        pause(5, 30)
        for pid in below(program.pid):
            with gone:
                os.kill(pid, signal.SIGKILL)
        program.kill()


@function
def naive_handle(backend: str) -> None:
    programs = [subprocess.Popen(command(random.randint(1, 10), 0)) for _ in range(4)]
    pause(10, 30)
    for program in programs:
        program.wait()
    pause(1, 3)
    for program in programs:
        with gone:
            os.kill(program.pid, signal.SIGUSR1)


@function
def naive_group(backend: str) -> None:
    programs = [subprocess.Popen(command(random.randint(1, 10), 0), start_new_session=True) for _ in range(4)]
    pause(10, 30)
    for program in programs:
        program.wait()
    pause(1, 3)
    for program in programs:
        with gone:
            os.killpg(program.pid, signal.SIGSTOP)


@function
def naive_assign(backend: str) -> None:
    own = own_cgroup()
    assert own
    leaf = own / f"naive-{os.getpid()}"
    leaf.mkdir(exist_ok=True)
    programs = [subprocess.Popen(command(random.randint(1, 10), 0)) for _ in range(4)]
    pause(1, 10)
    for program in programs:
        program.poll()
        with gone, open(leaf / "cgroup.procs", "w") as file:
            file.write(str(program.pid))
    (leaf / "cgroup.kill").write_text("1")
    for program in programs:
        program.wait()


@function
def naive_guard(backend: str) -> None:
    """The owner's death is seen, and its tree as it was then is killed."""
    owner = os.fork()
    if owner == 0:
        kept = [subprocess.Popen(command(1500, 6)) for _ in range(2)]
        time.sleep(LIFE / 1000)
        os._exit(len(kept))
    pause(30, 60)
    tree = below(owner)
    os.kill(owner, signal.SIGKILL)
    os.waitpid(owner, 0)
    for pid in tree:
        with gone:
            os.kill(pid, signal.SIGKILL)


def main() -> None:
    act, backend, slot = FUNCTIONS[sys.argv[1]], sys.argv[2], OPERATIONS + int(sys.argv[3])
    shared = Shared(os.environ["STRANGERS"])
    random.seed(os.getpid())
    until = time.monotonic() + 600
    while not shared.stop and time.monotonic() < until:
        try:
            act(backend)
        except (OSError, RuntimeError) as error:  # all PIDs are taken; threading tells it by a RuntimeError
            if getattr(error, "errno", None) != errno.EAGAIN and "start new thread" not in str(error):
                raise
            pause(5, 20)
            continue
        shared.set(slot, shared.get(slot) + 1)


if __name__ == "__main__":
    main()
