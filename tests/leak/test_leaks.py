"""Every public function and method, again and again: nothing of it stays. And a test that none was forgotten."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import subprocess
import sys
import warnings
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest

import pyjob
from helpers.ledger import assert_keeps_nothing
from helpers.leftovers import LINUX, own_cgroup, roots_of
from helpers.procs import end
from helpers.under_test import Backend

WINDOWS = sys.platform == "win32"
pytestmark = [
    pytest.mark.skipif(not LINUX and not WINDOWS, reason="nobody counts what a process has"),
    pytest.mark.timeout(240),
]

if WINDOWS:
    import _winapi

    _PYTHON = [sys.executable, "-I", "-S", "-c"]
    SLEEP = [*_PYTHON, "import time; time.sleep(600)"]
    CAT = [*_PYTHON, "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"]
    TREE = [*_PYTHON, f"import subprocess; subprocess.Popen({SLEEP}).wait()"]
    TRUE, FALSE, ECHO = (["cmd", "/c", *command.split()] for command in ("exit", "exit 1", "echo x"))
    NUDGE = signal.SIGTERM  # there is none that does nothing: after the first one the rest finds nobody
    ASKED = 0.05  # seconds; none of these can be asked
    CHEAP, DEAR, WARM = 60, 6, 4
else:
    SLEEP, CAT, TRUE, FALSE, ECHO = ["sleep", "600"], ["cat"], ["true"], ["false"], ["echo", "x"]
    TREE = ["sh", "-c", "sleep 600 & wait"]
    NUDGE = signal.SIGCONT
    ASKED = 5
    CHEAP, DEAR, WARM = 150, 20, 10  # calls in a round: of those that start nothing, of those that do; and at first
NOBODY = 2**22 + 1  # above the largest pid_max


class World:
    """What the calls act on."""

    def __init__(self, backend: Backend, stack: contextlib.ExitStack) -> None:
        self.backend = backend
        self.stack = stack
        stack.callback(subprocess._cleanup)  # type: ignore[attr-defined]  # as the next Popen would

    @cached_property
    def job(self) -> Any:
        """One with a member."""
        job = self.stack.enter_context(self.backend.job())
        program = job.popen(SLEEP)
        self.stack.callback(lambda: [program.kill(), program.wait()])
        return job

    @cached_property
    def empty(self) -> Any:
        return self.stack.enter_context(self.backend.job())

    @cached_property
    def closed(self) -> Any:
        job = self.backend.job()
        job.close()
        return job

    @cached_property
    def named(self) -> Any:
        return self.stack.enter_context(self.backend.job(name=f"leak-{os.getpid()}"))

    @cached_property
    def sleeper(self) -> Any:
        """A program of ours that runs."""
        program = self.stack.enter_context(self.backend.popen(SLEEP, job=self.job))
        self.stack.callback(program.kill)
        return program

    @cached_property
    def done(self) -> Any:
        program = self.backend.popen(TRUE)
        program.wait()
        return program

    @cached_property
    def stranger(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(SLEEP)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    @cached_property
    def handle(self) -> pyjob.ProcessHandle:
        return self.stack.enter_context(pyjob.ProcessHandle(self.stranger))

    @cached_property
    def lost(self) -> pyjob.ProcessHandle:
        """The handle of a process that is no more."""
        with subprocess.Popen(SLEEP) as process:
            handle = pyjob.ProcessHandle(process)
            process.kill()
        return self.stack.enter_context(handle)

    def popen(self, argv: list[str] = SLEEP, **options: Any) -> Any:
        return self.backend.popen(argv, **options)


@dataclass
class Case:
    name: str
    call: Callable[[World], object]
    refused: tuple[type[BaseException], ...] = ()
    calls: int = CHEAP
    needs: str = ""
    lacks: str = ""
    posix: bool = False
    stock: Callable[[], object] | None = None

    @property
    def id(self) -> str:
        return f"{self.name}{' fails' if self.refused else ''}"


CASES: list[Case] = []


def good(name: str, call: Callable[[World], object], calls: int = CHEAP, **options: Any) -> None:
    CASES.append(Case(name, call, (), calls, **options))


def fails(name: str, refused: Any, call: Callable[[World], object], calls: int = CHEAP, **options: Any) -> None:
    CASES.append(Case(name, call, refused if isinstance(refused, tuple) else (refused,), calls, **options))


# ---- Job


def _own_job(act: Callable[[Any], object] | None = None) -> Callable[[World], None]:
    """A job made, used and closed."""

    def call(world: World) -> None:
        with world.backend.job() as job:
            if act:
                act(job)

    return call


def _member(act: Callable[[Any], object]) -> Callable[[World], None]:
    """The same, with a member."""

    def call(world: World) -> None:
        with world.backend.job() as job:
            program = job.popen(SLEEP)
            act(job)
        program.wait()

    return call


def _drop_job(world: World) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        world.backend.job()


def _fork(world: World) -> None:
    """A forked child closes, forgets and leaves."""
    world.job  # noqa: B018
    child = os.fork()
    if child == 0:
        try:
            world.job.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _assign(world: World) -> None:
    with world.backend.job() as job, subprocess.Popen(SLEEP) as process:
        job.assign(process)
        job.kill()


def _assign_self(world: World) -> None:
    """It ends with the job while it starts its children: they come to this process."""
    with world.backend.job() as job:
        job.assign_self()
        process = subprocess.Popen(["sh", "-c", "for i in $(seq 10); do sleep 600 & done; wait"])
    process.wait()


def _release(world: World) -> None:
    with world.backend.job() as job:
        program = job.popen(SLEEP)
        job.release()
    program.kill()
    program.wait()


CLOSED = pyjob.JobClosedError
UNSUPPORTED = pyjob.UnsupportedError

good("Job", _own_job())
good("Job", _drop_job)
good("Job", _fork, DEAR, posix=True)
good("Job", lambda w: w.backend.job(name=f"other-{os.getpid()}").close(), needs="named")
fails("Job", FileExistsError, lambda w: w.backend.job(name=w.named.name), needs="named")
fails("Job", UNSUPPORTED, lambda w: w.backend.job(name="any"), lacks="named")
fails("Job", ValueError, lambda w: w.backend.job(require=("nothing",)))
good("Job.open", lambda w: pyjob.Job.open(w.named.name).close(), needs="named")
fails("Job.open", FileNotFoundError, lambda w: pyjob.Job.open("nobody's"), needs="named")
good("Job.popen", lambda w: w.empty.popen(TRUE).wait(), DEAR)
fails("Job.popen", FileNotFoundError, lambda w: w.empty.popen(["/nowhere/at/all"]), DEAR)
fails("Job.popen", CLOSED, lambda w: w.closed.popen(TRUE))
good("Job.run", lambda w: w.empty.run(TRUE), DEAR)
fails("Job.run", subprocess.CalledProcessError, lambda w: w.empty.run(FALSE, check=True), DEAR)
good("Job.assign", _assign, DEAR, needs="assign")
fails("Job.assign", ProcessLookupError, lambda w: w.job.assign(NOBODY), needs="assign")
fails("Job.assign", UNSUPPORTED, lambda w: w.job.assign(w.stranger), lacks="assign")
# Nobody leaves a job object: on Windows each would hold the tests' own process, one inside the other.
good("Job.assign_self", _own_job(lambda job: job.assign_self()), DEAR, needs="escape_proof", posix=True)
good("Job.assign_self", _assign_self, DEAR, needs="escape_proof", posix=True)
fails("Job.assign_self", CLOSED, lambda w: w.closed.assign_self())
good("Job.pids", lambda w: w.job.pids())
fails("Job.pids", CLOSED, lambda w: w.closed.pids())
good("Job.members", lambda w: list(w.job.members()))
fails("Job.members", CLOSED, lambda w: list(w.closed.members()))
good("Job.__contains__", lambda w: [w.stranger in w.job, w.stranger.pid in w.job, w.handle in w.job])
fails("Job.__contains__", CLOSED, lambda w: w.stranger in w.closed)
good("Job.send_signal", lambda w: w.job.send_signal(NUDGE))
fails("Job.send_signal", CLOSED, lambda w: w.closed.send_signal(NUDGE))
good("Job.stop", _member(lambda job: job.stop(ASKED)), DEAR)
fails("Job.stop", CLOSED, lambda w: w.closed.stop(0))
good("Job.kill", _member(lambda job: job.kill()), DEAR)
good("Job.kill", lambda w: w.empty.kill())
fails("Job.kill", CLOSED, lambda w: w.closed.kill())
good("Job.wait", lambda w: w.empty.wait(0))
fails("Job.wait", subprocess.TimeoutExpired, lambda w: w.job.wait(0))
good("Job.release", _release, DEAR)
fails("Job.release", CLOSED, lambda w: w.closed.release())
good("Job.close", _member(lambda job: job.close()), DEAR)
good("Job.close", lambda w: w.closed.close())
good("Job.__enter__", _own_job())
good("Job.__exit__", _own_job())
fails("Job.__exit__", ZeroDivisionError, _own_job(lambda job: 1 / 0))
for _name in ("name", "parent", "backend", "guarantees", "closed"):
    good(f"Job.{_name}", lambda w, name=_name: getattr(w.job, name))  # type: ignore[misc]
good("Job.__reduce__", lambda w: None)
fails("Job.__reduce__", TypeError, lambda w: pickle.dumps(w.job))

# ---- Popen, run and their kind

PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def _started(act: Callable[[Any], object], *argv: str, **options: Any) -> Callable[[World], None]:
    def call(world: World) -> None:
        with world.popen(list(argv) or SLEEP, **options) as program:
            try:
                act(program)
            finally:
                program.kill()

    return call


def _drop_popen(world: World) -> None:
    """Its tree lives on, until somebody else ends it: the job passes to this process, and goes with a later sweep."""
    program = world.popen()
    pid = program.pid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del program
        gc.collect()
    end(pid)
    if not WINDOWS:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _boom() -> None:
    raise ZeroDivisionError


def _stock_boom() -> None:
    """CPython 3.11 keeps an object each time."""
    with contextlib.suppress(subprocess.SubprocessError):
        subprocess.Popen(TRUE, preexec_fn=_boom)


good("Popen", lambda w: w.popen(TRUE).wait(), DEAR)
good("Popen", lambda w: w.popen(CAT, **PIPES).communicate(b"x"), DEAR)
good("Popen", lambda w: w.popen(TRUE, preexec_fn=int, cwd="/").wait(), DEAR, posix=True)
good("Popen", lambda w: w.popen(TRUE, start_new_session=True, env={}, pass_fds=(0,)).wait(), DEAR, posix=True)
good("Popen", _drop_popen, DEAR)
fails("Popen", FileNotFoundError, lambda w: w.popen(["/nowhere/at/all"], **PIPES), DEAR)
fails("Popen", (FileNotFoundError, NotADirectoryError), lambda w: w.popen(TRUE, cwd="/nowhere/at/all"), DEAR)
fails(
    "Popen", subprocess.SubprocessError, lambda w: w.popen(TRUE, preexec_fn=_boom), DEAR, stock=_stock_boom, posix=True
)
fails("Popen", ValueError, lambda w: w.popen(["a\0b"]))
good("Popen.job", _started(lambda p: p.job.pids()), DEAR)
good("Popen.poll", lambda w: [w.sleeper.poll(), w.done.poll()])
good("Popen.wait", _started(lambda p: p.wait(), *TRUE), DEAR)
fails("Popen.wait", subprocess.TimeoutExpired, lambda w: w.sleeper.wait(0))
good("Popen.communicate", _started(lambda p: p.communicate(b"x" * 9999), *CAT, **PIPES), DEAR)
fails(
    "Popen.communicate",
    subprocess.TimeoutExpired,
    _started(lambda p: p.communicate(timeout=0.01), stdout=subprocess.PIPE),
    DEAR,
)
good("Popen.send_signal", lambda w: [w.sleeper.send_signal(NUDGE), w.done.send_signal(NUDGE)])
fails("Popen.send_signal", (OSError, ValueError), lambda w: w.sleeper.send_signal(4711))
good("Popen.terminate", _started(lambda p: [p.terminate(), p.wait()]), DEAR)
good("Popen.kill", _started(lambda p: [p.kill(), p.wait()]), DEAR)
good("Popen.kill", lambda w: w.done.kill())
good("Popen.stop", _started(lambda p: [p.stop(ASKED), p.wait()]), DEAR)
good("Popen.stop", lambda w: w.done.stop())
good("Popen.__enter__", _started(lambda p: None), DEAR)
good("Popen.__exit__", _started(lambda p: None), DEAR)
fails("Popen.__exit__", ZeroDivisionError, _started(lambda p: 1 / 0), DEAR)
good("Popen.universal_newlines", lambda w: w.done.universal_newlines)
good("run", lambda w: w.backend.run(CAT, input=b"x", capture_output=True, linger=5), DEAR)
# On Windows that is 2 s each: nobody can ask those that are left.
good("run", lambda w: w.backend.run(["sh", "-c", "sleep 600 & exit 0"], linger=0.01), DEAR, posix=True)
fails("run", subprocess.TimeoutExpired, lambda w: w.backend.run(SLEEP, timeout=0.01, capture_output=True), DEAR)
fails("run", FileNotFoundError, lambda w: w.backend.run(["/nowhere/at/all"], capture_output=True), DEAR)
good("call", lambda w: pyjob.call(TRUE, backend=w.backend), DEAR)
fails("call", subprocess.TimeoutExpired, lambda w: pyjob.call(SLEEP, timeout=0.01, backend=w.backend), DEAR)
good("check_call", lambda w: pyjob.check_call(TRUE, backend=w.backend), DEAR)
fails("check_call", subprocess.CalledProcessError, lambda w: pyjob.check_call(FALSE, backend=w.backend), DEAR)
good("check_output", lambda w: pyjob.check_output(ECHO, backend=w.backend), DEAR)
fails("check_output", subprocess.CalledProcessError, lambda w: pyjob.check_output(FALSE, backend=w.backend), DEAR)

# ---- ProcessHandle, children, kill_tree


def _killed_handle(world: World) -> None:
    with subprocess.Popen(SLEEP) as process, pyjob.ProcessHandle(process) as handle:
        handle.kill()
        handle.wait()


def _killed_tree(world: World) -> None:
    with subprocess.Popen(TREE) as process:
        pyjob.kill_tree(process)


def _nudge(handle: pyjob.ProcessHandle) -> None:
    with contextlib.suppress(ProcessLookupError) if WINDOWS else contextlib.nullcontext():
        handle.send_signal(NUDGE)


def _closed_handle(world: World) -> pyjob.ProcessHandle:
    handle = pyjob.ProcessHandle(os.getpid())
    handle.close()
    return handle


good("ProcessHandle", lambda w: pyjob.ProcessHandle(w.stranger))
fails("ProcessHandle", ProcessLookupError, lambda w: pyjob.ProcessHandle(NOBODY))
good("ProcessHandle.is_alive", lambda w: [w.handle.is_alive(), w.lost.is_alive()])
fails("ProcessHandle.is_alive", ValueError, lambda w: _closed_handle(w).is_alive())
good("ProcessHandle.send_signal", lambda w: _nudge(w.handle))
fails("ProcessHandle.send_signal", ProcessLookupError, lambda w: w.lost.send_signal(NUDGE))
good("ProcessHandle.kill", _killed_handle, DEAR)
good("ProcessHandle.kill", lambda w: w.lost.kill())
fails("ProcessHandle.kill", ValueError, lambda w: _closed_handle(w).kill())
good("ProcessHandle.wait", lambda w: w.lost.wait())
fails("ProcessHandle.wait", subprocess.TimeoutExpired, lambda w: w.handle.wait(0))
good("ProcessHandle.close", _closed_handle)
good("ProcessHandle.__enter__", lambda w: pyjob.ProcessHandle(os.getpid()).__enter__())
good("ProcessHandle.__exit__", lambda w: pyjob.ProcessHandle(os.getpid()).__exit__(None, None, None))
good("ProcessHandle.__eq__", lambda w: [w.handle == w.lost, w.handle == 1])
good("ProcessHandle.__hash__", lambda w: {w.handle, w.lost})
fails("ProcessHandle.__reduce__", TypeError, lambda w: pickle.dumps(w.handle))
for _name in ("pid", "create_time", "pinned"):
    good(f"ProcessHandle.{_name}", lambda w, name=_name: getattr(w.handle, name))  # type: ignore[misc]
good("children", lambda w: [w.stranger, pyjob.children(), pyjob.children(recursive=True)])
fails("children", ProcessLookupError, lambda w: pyjob.children(NOBODY))
good("kill_tree", _killed_tree, DEAR)
fails("kill_tree", ProcessLookupError, lambda w: pyjob.kill_tree(NOBODY))

# ---- values

good("backends", lambda w: pyjob.backends(), 30)
good("Backend", lambda w: pyjob.Backend("x", True, pyjob.Guarantees(), "", ""))
good("Guarantees", lambda w: hash(pickle.loads(pickle.dumps(pyjob.Guarantees(["inherited"])))))
fails("Guarantees", ValueError, lambda w: pyjob.Guarantees(["nothing"]))
good("Guarantees.__iter__", lambda w: list(w.empty.guarantees))
good("Guarantees.__contains__", lambda w: "inherited" in w.empty.guarantees)
good("Guarantees.__eq__", lambda w: pyjob.Guarantees() == pyjob.Guarantees(["inherited"]))
good("Guarantees.__hash__", lambda w: hash(pyjob.Guarantees()))
good("Guarantees.__reduce__", lambda w: pickle.dumps(pyjob.Guarantees()))
fails("Guarantees.__setattr__", AttributeError, lambda w: setattr(pyjob.Guarantees(), "named", True))
fails("Guarantees.__delattr__", AttributeError, lambda w: delattr(pyjob.Guarantees(), "named"))
for _name in pyjob.Guarantees.__slots__:
    good(f"Guarantees.{_name}", lambda w, name=_name: getattr(pyjob.Guarantees(), name))  # type: ignore[misc]
for _name in pyjob.Backend.__slots__:
    good(f"Backend.{_name}", lambda w, name=_name: [getattr(one, name) for one in pyjob.backends()], 10)  # type: ignore[misc]
good("CompletedProcess", lambda w: pyjob.CompletedProcess([], 0, b"", b"", [1]))
good("CompletedProcess.check_returncode", lambda w: pyjob.CompletedProcess([], 0).check_returncode())
fails(
    "CompletedProcess.check_returncode",
    subprocess.CalledProcessError,
    lambda w: pyjob.CompletedProcess([], 1).check_returncode(),
)
good("JobError", lambda w: pickle.loads(pickle.dumps(pyjob.JobError(1, "x"))))
good("JobClosedError", lambda w: pickle.loads(pickle.dumps(pyjob.JobClosedError("x"))))
good("UnsupportedError", lambda w: pickle.loads(pickle.dumps(pyjob.UnsupportedError("x"))))
good("SurvivorsError", lambda w: pickle.loads(pickle.dumps(pyjob.SurvivorsError([1, 2]))))
good("SurvivorsError.__reduce__", lambda w: pyjob.SurvivorsError([1, 2]).__reduce__())

# Of these there is nothing that depends on the backend.
ALIKE = (
    "ProcessHandle",
    "children",
    "kill_tree",
    "back",
    "Back",
    "Guarantees",
    "Completed",
    "JobE",
    "JobC",
    "Uns",
    "Surv",
)

# What has no way to fail but to be given the wrong kind of thing, and what is a failure and nothing else.
CANNOT_FAIL = {
    "backends", "Backend", "CompletedProcess", "JobError", "JobClosedError", "UnsupportedError", "SurvivorsError",
    "SurvivorsError.__reduce__", "Job.close", "Job.__enter__", "Popen.job", "Popen.poll", "Popen.terminate",
    "Popen.kill", "Popen.stop", "Popen.__enter__", "ProcessHandle.close", "ProcessHandle.__enter__",
    "ProcessHandle.__exit__", "ProcessHandle.__eq__", "ProcessHandle.__hash__", "Guarantees.__iter__",
    "Guarantees.__contains__", "Guarantees.__eq__", "Guarantees.__hash__", "Guarantees.__reduce__",
}  # fmt: skip
ALWAYS_FAILS = {"Guarantees.__setattr__", "Guarantees.__delattr__", "ProcessHandle.__reduce__", "Job.__reduce__"}


@pytest.fixture
def world(backend: Backend) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        yield World(backend, stack)


def _check(case: Case, world: World) -> None:
    if case.needs and not world.backend.has(case.needs):
        pytest.skip(f"{world.backend} does not promise {case.needs}")
    if case.lacks and world.backend.has(case.lacks):
        pytest.skip(f"{world.backend} promises {case.lacks}")
    if case.posix and WINDOWS:
        pytest.skip("POSIX's alone")
    call = case.call
    if case.refused:

        def call(world: World) -> None:
            with contextlib.suppress(*case.refused):
                case.call(world)
                raise AssertionError(f"{case.id}: nothing was raised")

    assert_keeps_nothing(lambda: call(world), case.calls, case.stock, WARM)


@pytest.mark.parametrize("case", [one for one in CASES if not one.name.startswith(ALIKE)], ids=lambda one: one.id)
def test_keeps_nothing(case: Case, world: World) -> None:
    _check(case, world)


@pytest.mark.parametrize("case", [one for one in CASES if one.name.startswith(ALIKE)], ids=lambda one: one.id)
def test_keeps_nothing_anywhere(case: Case) -> None:
    with contextlib.ExitStack() as stack:
        info = next(one for one in pyjob.backends() if one.available)
        _check(case, World(Backend.find(info.name)[0], stack))


# ---- that none was forgotten, and that the look sees

ADDED = {
    "__contains__",
    "__enter__",
    "__exit__",
    "__eq__",
    "__hash__",
    "__iter__",
    "__reduce__",
    "__setattr__",
    "__delattr__",
}


def public(kind: type) -> set[str]:
    """What our classes define or inherit for others to use; of the exceptions only what is ours."""
    inherited = kind.__mro__[:1] if issubclass(kind, BaseException) else kind.__mro__[:-1]
    names = {name for one in inherited for name, what in vars(one).items() if not name.startswith("_") and _acts(what)}
    return names | {
        name for name in ADDED if any(name in vars(one) for one in kind.__mro__[:-1] if "pyjob" in one.__module__)
    }


def _acts(what: object) -> bool:
    return callable(what) or isinstance(what, property | classmethod | staticmethod) or hasattr(what, "__set__")


def test_none_is_forgotten() -> None:
    wanted = set()
    values = set()
    for name in pyjob.__all__:
        kind = getattr(pyjob, name)
        wanted.add(name)
        if isinstance(kind, type):
            wanted |= {f"{name}.{one}" for one in public(kind)}
            values |= {f"{name}.{one}" for one in public(kind) if not callable(getattr(kind, one))}
    tried = {one.name for one in CASES if not one.refused}
    failed = {one.name for one in CASES if one.refused}
    assert wanted - ALWAYS_FAILS - tried - {"Popen.__del__"} == set(), "no leak test"
    assert wanted - CANNOT_FAIL - values - failed == set(), "no leak test of a failure"
    assert (tried | failed | CANNOT_FAIL) - wanted - {"Popen.__enter__", "Popen.job"} == set(), "no such name"


ONLY_COUNTED = ("descriptor", "handle", "forgotten")  # of these no object is kept


class Leaks:
    """One small thing a call. (forgotten: a process that runs, of which we have no handle)"""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.kept: list[Any] = []
        self.numbers = array("q")

    def __call__(self) -> None:
        if self.kind == "object":
            self.kept.append(object())
        elif self.kind == "malloc":
            self.kept.append(bytearray(600))  # more than Python's own allocator takes
        elif self.kind == "descriptor":
            self.numbers.append(os.open(os.devnull, os.O_RDONLY))
        elif self.kind == "handle":
            self.numbers.append(_winapi.CreateFile("NUL", _winapi.GENERIC_READ, 0, 0, _winapi.OPEN_EXISTING, 0, 0))
        elif self.kind == "forgotten":
            program: Any = subprocess.Popen(SLEEP)
            program._handle.Close()
            program.returncode = 0
            self.numbers.append(program.pid)
        elif self.kind == "process":
            self.kept.append(subprocess.Popen(SLEEP))
        elif self.kind == "zombie":
            self.kept.append(subprocess.Popen(TRUE))
        elif self.kind == "group":
            root = roots_of(os.getpid())[0]
            self.kept.append(root / f"leak-{len(self.kept)}")
            self.kept[-1].mkdir()

    def end(self) -> None:
        for number in self.numbers:
            if self.kind == "descriptor":
                os.close(number)
            elif self.kind == "handle":
                _winapi.CloseHandle(number)
            else:
                end(number)
        for one in self.kept:
            if self.kind in ("process", "zombie"):
                one.kill()
                one.wait()
            elif self.kind == "group":
                one.rmdir()


@pytest.mark.parametrize("kind", ["object", "malloc", *ONLY_COUNTED, "process", "zombie", "group"])
def test_the_look_sees(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leak of one small thing each time must fail."""
    monkeypatch.setattr("helpers.ledger.SECONDS", 0.3)
    if kind in ("handle", "forgotten") and not WINDOWS:
        pytest.skip("Windows' alone")
    if kind == "group" and (own_cgroup() is None or Backend.find("cgroup")[1]):
        pytest.skip("no cgroup that we may write")
    calls = 100 if kind in ("object", "malloc") else 6 if kind in ONLY_COUNTED else 2
    told = "more than before" if kind in ONLY_COUNTED else r"memory is kept|kept:"
    leak = Leaks(kind)
    try:
        with pyjob.Job(), pytest.raises(AssertionError, match=told):
            assert_keeps_nothing(leak, calls, warm=2)
    finally:
        leak.end()


def test_the_look_sees_nothing_where_nothing_is() -> None:
    assert_keeps_nothing(lambda: [object() for _ in range(9)], CHEAP)
    assert sys.getallocatedblocks() > 0
