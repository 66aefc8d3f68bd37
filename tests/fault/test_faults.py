"""Each system call that our C code makes fails once, at each place where it makes it: strace(1) injects the error.

What must hold: no crash, no hang; an error that names the call; no stranger touched; whoever was started is gone with
the owner; and the next use works. By default the owner, its children and the guard meet each error of each call once,
and then each test takes a few seconds' worth of the other places, always the same ones; PYJOB_FAULTS=all tries every
place, PYJOB_FAULTS=SECONDS for so long, PYJOB_FAULTS_SEED=2 other ones, PYJOB_FAULTS_MATCH='ppoll number 6' what a
report has named.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import pyjob
from helpers.leftovers import LINUX, own_cgroup, roots_of
from helpers.procs import eventually, guards_of, processes
from helpers.under_test import STRICT

ALL = os.environ.get("PYJOB_FAULTS") == "all"
BUDGET = 1e9 if ALL else float(os.environ.get("PYJOB_FAULTS") or 3)
SEED = int(os.environ.get("PYJOB_FAULTS_SEED") or 1)
MATCH = os.environ.get("PYJOB_FAULTS_MATCH", "")
DEADLINE = 40.0  # no step of the scenario waits for more than 5 s, all of them together for less than this

pytestmark = [
    pytest.mark.skipif(not LINUX, reason="strace is for Linux"),
    pytest.mark.root,  # to trace somebody else's child
    pytest.mark.tool("strace"),
    pytest.mark.timeout(20000 if ALL else 1200),
]

# What csrc/{core,posix,linux,guard,py} calls and the kernel can refuse, with what.
FAULTS = {
    "openat": "EMFILE EACCES EIO",
    "read": "EIO EINTR",
    "write": "EIO EINTR ENOSPC",
    "pread64": "EIO",
    "lseek": "EINVAL",
    "mkdir": "ENOSPC EACCES",
    "mkdirat": "ENOSPC EACCES",
    "unlinkat": "EBUSY EACCES",
    "linkat": "ENOSPC",
    "renameat": "EIO",
    "renameat2": "EIO",
    "fchmod": "EPERM",
    "fchmodat": "EPERM",
    "ftruncate": "EIO",
    "newfstatat": "ENOMEM EACCES",
    "fstat": "EIO",
    "statx": "EIO",
    "fstatfs": "EIO",
    "readlinkat": "EACCES",
    "readlink": "EACCES",
    "getdents64": "EIO ENOMEM",
    "flock": "EINTR ENOLCK",
    "fcntl": "EMFILE EINVAL",
    "dup": "EMFILE",
    "dup2": "EMFILE EBUSY",
    "dup3": "EMFILE EBUSY",
    "pipe2": "EMFILE",
    "socketpair": "EMFILE ENOBUFS",
    "sendmsg": "EPIPE ENOBUFS",
    "sendto": "EPIPE ENOBUFS EINTR",
    "recvmsg": "ECONNRESET EINTR",
    "recvfrom": "ECONNRESET EINTR",
    "setsockopt": "ENOBUFS",
    "memfd_create": "EMFILE",
    "mmap": "ENOMEM",
    "mremap": "ENOMEM",
    "signalfd4": "EMFILE ENOMEM",
    "unshare": "EPERM ENOMEM",
    "clone": "EAGAIN ENOMEM",
    "clone3": "EAGAIN ENOSYS EBUSY",
    "vfork": "EAGAIN",
    "fork": "EAGAIN",
    "execve": "ENOMEM EACCES",
    "wait4": "EINTR ECHILD",
    "waitid": "EINTR ECHILD",
    "pidfd_open": "EMFILE ENOSYS EPERM ENODEV",
    "pidfd_send_signal": "EPERM ENOSYS EINVAL",
    "kill": "EPERM ESRCH",
    "poll": "EINTR ENOMEM",
    "ppoll": "EINTR ENOMEM",
    "prctl": "EINVAL EPERM",
    "ioctl": "ENOTTY EIO",
    "setsid": "EPERM",
    "setpgid": "EPERM EACCES",
    "chdir": "EACCES EIO",
    "close_range": "ENOSYS EMFILE",
    "getrlimit": "EFAULT",
    "prlimit64": "EPERM",
    "sched_getaffinity": "EINVAL",
}
# What cannot be refused, or only for arguments that are wrong; and close(), which ends the descriptor all the same.
HARMLESS = set(
    re.findall(
        r"\w+",
        "close getpid getppid getpgid getpgrp getsid geteuid getuid getegid getgid gettid umask munmap mprotect "
        "madvise brk uname exit exit_group rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending sigaltstack "
        "sched_yield futex access faccessat faccessat2 nanosleep clock_nanosleep clock_gettime restart_syscall "
        "getrandom tgkill setreuid setregid setgroups setreuid32 setregid32 setgroups32",
    )
)
# How errors name a call, where not by its own name: by the C library's function, or by the step that it belongs to.
ALSO_CALLED = {
    "openat": "open read write",
    "newfstatat": "stat lstat fstat fstatat",
    "getdents64": "read",
    "pread64": "read",
    "mkdirat": "mkdir",
    "unlinkat": "rmdir",
    "recvfrom": "recv",
    "recvmsg": "recv",
    "sendto": "send",
    "sendmsg": "send",
    "ppoll": "poll",
    "clone": "vfork",
    "wait4": "waitpid",
}
MARKER = "/pyjob-marker"
TRACED = ",".join(f"?{name}" for name in FAULTS)


@dataclass(frozen=True)
class Fault:
    call: str
    error: str
    when: int
    follow: bool = False  # in the children as well

    def __str__(self) -> str:
        return f"{self.call} number {self.when}{' of each' if self.follow else ''}: {self.error}"


class Strace:
    """Follows one process, from when this is made; the calls are counted from there."""

    def __init__(self, pid: int, output: Path, *options: str) -> None:
        command = ["strace", "-I", "2", "-o", str(output), *options, "-p", str(pid)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr
        line = self.process.stderr.readline()
        if "attached" not in line:
            self.process.kill()
            self.process.communicate()
            (pytest.skip if "not permitted" in line and not STRICT else pytest.fail)(f"strace cannot follow: {line}")

    def end(self) -> None:
        try:
            self.process.communicate(timeout=5)  # by itself, with the last that it follows
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGINT)
            self.process.communicate(timeout=30)


@dataclass
class Trial:
    """One run of the scenario, in a process of its own."""

    factory: Factory
    backend: str
    part: str
    number: int
    afterwards: bool
    pid: int = 0
    problems: list[str] = field(default_factory=list)

    def path(self, what: str) -> Path:
        return self.factory.folder / f"{what}{self.number}"

    def start(self) -> None:
        request = {what: str(self.path(what)) for what in ("ready", "go", "report")}
        self.pid = self.factory.ask(
            {"backend": self.backend, "part": self.part, "afterwards": self.afterwards, **request}
        )
        self.await_path("ready")

    def await_path(self, what: str) -> bool:
        end = time.monotonic() + DEADLINE
        while not self.path(what).exists():
            if time.monotonic() > end or not Path(f"/proc/{self.pid}/stat").exists():
                return False
            time.sleep(0.005)
        return True

    def go(self) -> dict[str, Any]:
        self.path("go").touch()
        if not self.await_path("report"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGABRT)  # faulthandler tells where
            stuck = [
                f"{one} at {wchan(one.pid)}" for one in processes() if one.session == self.pid and one.state not in "ZX"
            ]
            time.sleep(0.5)
            where = (self.factory.folder / "errors").read_text()[-3000:]
            self.problems.append(f"it hangs or crashed: {stuck}\n{where}")
            return {}
        return dict(json.loads(self.path("report").read_text()))

    def end(self, expected: int) -> None:
        if self.problems or expected:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        code = self.factory.answer()
        if code:
            self.end_stranger()
        if code != expected and not self.problems:
            self.problems.append(f"it ended with {code}")

    def end_stranger(self) -> None:
        """Of an owner that could not."""
        stranger = int(self.path("ready").read_text())
        if any(one.pid == stranger and one.session == self.pid for one in processes()):
            os.kill(stranger, signal.SIGKILL)

    def judge(self, report: dict[str, Any], fault: Fault, late: bool = False) -> None:
        """`late`: fewer calls were made than in the reference, so the fault, if any, came after them."""
        if report.get("failure"):
            self.problems.append(f"the scenario broke: {report['failure']}")
        if report.get("stranger") is not None:
            self.problems.append("a stranger is dead")
        # ECHILD is a lie: the child is still there.
        if report.get("left") and not late and fault.error != "ECHILD":
            self.problems.append(f"left: {report['left']}")
        before = False
        for error in report.get("errors", ()):
            # Of a child's the owner may hear by what became of its guard.
            told = before or late or fault.follow or _is_named(fault.call, error)
            if (error["step"] == "afterwards" and not late) or not (told and _fair(error, fault, before)):
                self.problems.append(str(error))
            before = True

    def assert_gone(self) -> None:
        """Whoever was started goes with the owner, and so do its guards."""

        def left() -> list[str]:
            return [str(one) for one in processes() if one.session == self.pid and one.state not in "ZX"]

        try:
            eventually(lambda: not left(), 15)
        except AssertionError:
            self.problems.append(f"left: {left()}")
            for one in processes():
                if one.session == self.pid:
                    os.kill(one.pid, signal.SIGKILL)


def wchan(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return "?"


def _fair(error: dict[str, Any], fault: Fault, before: bool) -> bool:
    """Whether this is how a refusal may come out of pyjob."""
    if error["type"] == "TimeoutExpired":  # of a wait for somebody whose kill was refused
        return before
    if error["type"] == "MemoryError":
        return fault.call in ("mmap", "clone", "execve") or fault.error == "ENOMEM"
    if error["type"] in ("SurvivorsError", "UnsupportedError"):  # names PIDs, or a reason
        return bool(error["survivors"] or error["text"])
    return bool(error["os"] and (error["call"] or not error["ours"]))


def _is_named(call: str, error: dict[str, Any]) -> bool:
    words = re.findall(r"\w+", error["call"] or "")
    return not words or not error["ours"] or not {call, *ALSO_CALLED.get(call, "").split()}.isdisjoint(words)


class Factory:
    """The process that forks for each run."""

    def __init__(self, folder: Path, backends: list[str]) -> None:
        self.folder = folder
        self.output = open(folder / "errors", "wb")  # noqa: SIM115
        command = [sys.executable, "-X", "faulthandler", str(Path(__file__).with_name("scenario.py")), *backends]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.output, text=True, bufsize=1
        )
        self.made = 0
        self.pids: list[int] = []
        assert self.line() == "ready"

    def line(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline().strip()
        assert line, (self.folder / "errors").read_text()
        return line

    def ask(self, request: dict[str, object]) -> int:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        return int(self.line())

    def answer(self) -> int:
        return int(self.line())

    def trial(self, backend: str, part: str, afterwards: bool = True) -> Trial:
        self.made += 1
        made = Trial(self, backend, part, self.made, afterwards)
        made.start()
        self.pids.append(made.pid)
        return made

    def groups(self) -> list[Path]:
        return [root for pid in self.pids for root in roots_of(pid)]

    def tidy_up(self) -> None:
        """A probe whose rmdir was refused leaves an empty group, of which nobody knows."""
        cgroup = own_cgroup()
        for pid in self.pids if cgroup else ():
            for left in cgroup.glob(f"pyjob-probe-{pid}-*"):
                left.rmdir()

    def end(self) -> None:
        for one in processes():
            if one.session in self.pids:  # only after a failure
                os.kill(one.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.tidy_up()
        for file in (self.process.stdin, self.process.stdout, self.output):
            if file:
                file.close()


@pytest.fixture
def factory(folder: Path, backend: str) -> Iterator[Factory]:
    made = Factory(folder, [str(backend)])
    yield made
    made.end()


def calls(trace: Path) -> Iterator[tuple[int, str, str]]:
    """(PID, call, line) of what strace -f has written, each call once."""
    for line in trace.read_text(errors="replace").splitlines():
        found = re.match(r"(\d+) +(\w+)\(", line)
        if found:
            yield int(found[1]), found[2], line


def count(trace: Path, owner: int) -> tuple[Counter[str], Counter[str]]:
    """How often the owner made each call, up to the marker; and how often a child that is no program yet."""
    own: Counter[str] = Counter()
    others: dict[int, Counter[str]] = {}
    done = set()
    for pid, call, line in calls(trace):
        if MARKER in line:
            break
        if pid == owner:
            own[call] += 1
        elif pid not in done:
            others.setdefault(pid, Counter())[call] += 1
            if call == "execve" and "pyjob-guard" not in line:
                done.add(pid)
    most: Counter[str] = Counter()
    for one in others.values():
        most |= one
    return own, most


def places(found: Counter[str], follow: bool = False) -> list[Fault]:
    return [
        Fault(call, error, when, follow)
        for call, times in sorted(found.items())
        for error in FAULTS.get(call, "").split()
        for when in some(times)
        if not (follow and error in ("EPIPE", "ECONNRESET", "ECHILD"))  # to a guard: the owner, or everybody, is gone
    ]


def some(times: int) -> list[int]:
    """Of calls that are made for each process of the machine the first, the last, and a few between."""
    if times <= 60:
        return list(range(1, times + 1))
    return sorted({*range(1, 21), *range(20, times, times // 20), *range(times - 19, times + 1)})


def chosen(everything: list[Fault], each_once: bool) -> Iterator[Fault]:
    """All of them; or, until the time is up, one of each call's errors before a second of any."""
    everything = [one for one in everything if re.search(MATCH, str(one))]
    if ALL:
        yield from everything
        return
    end = time.monotonic() + BUDGET
    order = random.Random(SEED)
    order.shuffle(everything)
    seen: Counter[tuple[str, str]] = Counter()
    rank = {}
    for one in everything:
        seen[one.call, one.error] += 1
        rank[one] = seen[one.call, one.error]
    for one in sorted(everything, key=rank.__getitem__):
        if time.monotonic() > end and not (each_once and rank[one] == 1):
            return
        yield one


def reference(factory: Factory, backend: str, part: str) -> tuple[Counter[str], Counter[str]]:
    trial = factory.trial(backend, part)
    trace = factory.folder / f"reference-{part}"
    strace = Strace(trial.pid, trace, "-f")
    report = trial.go()
    trial.end(0)
    strace.end()
    trial.judge(report, Fault("", "", 0))
    trial.assert_gone()
    assert not trial.problems and not report["errors"], (trial.problems, report)
    own, others = count(trace, trial.pid)
    assert set(own) - set(FAULTS) - HARMLESS == set(), "calls that the table does not have"
    return own, others


def inject(factory: Factory, backend: str, part: str, fault: Fault) -> list[str]:
    trial = factory.trial(backend, part, not fault.follow)  # each child counts by itself, those of then, too
    what = f"inject={fault.call}:error={fault.error}:when={fault.when}"
    follow = ["-f"] if fault.follow else []
    trace = factory.folder / "trace"
    strace = Strace(trial.pid, trace, *follow, "-e", f"trace={fault.call},?access,?faccessat,?faccessat2", "-e", what)
    report = trial.go()
    trial.end(-signal.SIGKILL if trial.problems else 0)
    strace.end()
    before, _, _ = trace.read_text(errors="replace").partition(MARKER)
    trial.judge(report, fault, "INJECTED" not in before)
    trial.assert_gone()
    return [f"{fault}: {one}" for one in trial.problems]


def assert_stands(
    factory: Factory, backend: str, part: str, everything: list[Fault], try_=inject, each_once: bool = False
) -> None:
    assert len(everything) > 5
    tried = 0
    problems = []
    for fault in chosen(everything, each_once):
        found = try_(factory, backend, part, fault)
        if found:
            print("\n".join(found), flush=True)
        problems += found
        tried += 1
    # A group that could not be removed is left to the next owner.
    inject(factory, backend, "whole", Fault("openat", "EIO", 9999))
    eventually(lambda: not factory.groups(), 20, lambda: f"left: {factory.groups()}, seed {SEED}")
    print(f"{tried} of {len(everything)} places, seed {SEED}")
    assert tried
    assert not problems, f"{len(problems)} problems, seed {SEED}:\n" + "\n".join(problems)


def test_owner(factory: Factory, backend: str) -> None:
    """In the process that uses pyjob."""
    own, _ = reference(factory, backend, "whole")
    assert_stands(factory, backend, "whole", places(own), each_once=True)


def test_children(factory: Factory, backend: str) -> None:
    """On the way to a program or a guard, and in the guard."""
    _, others = reference(factory, backend, "whole")
    assert_stands(factory, backend, "whole", places(others, True), each_once=True)


@pytest.mark.parametrize("follow", [False, True], ids=["owner", "children"])
def test_a_failed_start_leaves_nothing(follow: bool, factory: Factory, backend: str) -> None:
    own, others = reference(factory, backend, "start")
    assert_stands(factory, backend, "start", places(others if follow else own, follow))


PARTS = [("single", "inherited"), ("moves", "assign"), ("named", "named")]


@pytest.mark.parametrize(("part", "promise"), PARTS)
def test_other_parts(part: str, promise: str, factory: Factory, backend: Any) -> None:
    if not backend.has(promise):
        pytest.skip(f"{backend} does not promise {promise}")
    if part == "single" and str(backend) != next(one.name for one in pyjob.backends() if one.available):
        pytest.skip("depends on no backend")
    own, _ = reference(factory, backend, part)
    assert_stands(factory, backend, part, places(own))


# ---- the guard alone: its owner is killed, and one of its calls fails


def bereave(factory: Factory, backend: str, options: list[str]) -> tuple[Trial, Path]:
    trial = factory.trial(backend, "started")
    guards = guards_of(trial.pid)
    assert guards
    trace = factory.folder / "trace"
    strace = Strace(guards[0].pid, trace, "-f", *options)
    trial.go()
    trial.end(-signal.SIGKILL)
    trial.assert_gone()
    strace.end()
    return trial, trace


def inject_guard(factory: Factory, backend: str, part: str, fault: Fault) -> list[str]:
    what = f"inject={fault.call}:error={fault.error}:when={fault.when}"
    trial, _ = bereave(factory, backend, ["-e", f"trace={fault.call}", "-e", what])
    return [f"{fault}: {one}" for one in trial.problems]


@pytest.mark.needs("dies_with_owner")
def test_guard(factory: Factory, backend: str) -> None:
    trial, trace = bereave(factory, backend, ["-e", f"trace={TRACED}"])
    assert not trial.problems
    found = Counter(call for _, call, _ in calls(trace))
    # ECHILD would be a lie that no kernel tells: that everybody is gone.
    everything = [one for one in places(found) if one.error != "ECHILD"]
    assert_stands(factory, backend, "started", everything, inject_guard, each_once=True)


# ---- the table


def test_the_table_is_whole() -> None:
    """What the sources call by its system call's name is in the table, or cannot fail."""
    source = Path(os.environ.get("PYJOB_SOURCE", Path(__file__).resolve().parents[2])) / "csrc"
    if not source.is_dir():
        pytest.skip("no sources here (PYJOB_SOURCE)")
    text = "".join(one.read_text() for part in ("posix", "linux", "guard") for one in (source / part).glob("*.[ch]"))
    used = set(re.findall(r"\bSYS_(\w+)", text))
    assert len(used) > 20
    assert used - HARMLESS - set(FAULTS) == set()


def test_a_crash_is_noticed(factory: Factory, backend: str) -> None:
    trial = factory.trial(backend, "whole")
    os.kill(trial.pid, signal.SIGSEGV)
    trial.go()
    assert trial.problems and "crashed" in trial.problems[0]
    trial.end(-signal.SIGSEGV)
