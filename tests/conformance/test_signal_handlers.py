"""A signal handler may close what the interrupted thread waits for."""

import os
import signal
import sys

import pytest

import pyjob
from helpers.leftovers import POOL
from helpers.procs import DEADLINE

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no timer that raises a signal there"),
    pytest.mark.main_interpreter,
]


@pytest.fixture
def soon():
    """Calls a function in a signal handler, a moment later."""
    former = signal.getsignal(signal.SIGALRM)

    def arm(function):
        signal.signal(signal.SIGALRM, lambda *_: function())
        signal.setitimer(signal.ITIMER_REAL, 0.2)

    yield arm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, former)


def test_close_in_a_handler_wakes_wait(backend, soon):
    job = backend.job()
    with job.popen(["sleep", "600"]):
        soon(job.close)
        with pytest.raises(pyjob.JobClosedError):
            job.wait(60)


def test_close_of_the_private_job_in_a_handler_ends_the_wait_for_the_program(backend, soon):
    process = backend.popen(["sleep", "600"])
    soon(process.job.close)
    assert process.wait(60) == -signal.SIGKILL


@pytest.mark.parametrize("outer", [60, None])
def test_a_handler_may_wait_for_the_program_that_is_waited_for(backend, soon, outer):
    """A supervisor loops over wait(timeout), and its handler ends the program. Without a timeout stock deadlocks."""
    if outer is None and backend.has("own_child") and backend != "process-group":
        pytest.skip("as in stock: the wait is os.waitpid() under a lock")
    process = backend.popen(["sleep", "600"])
    seen = []

    def end():
        process.terminate()
        seen.append(process.wait(60))

    soon(end)
    assert process.wait(outer) == -signal.SIGTERM
    assert seen == [-signal.SIGTERM]


def test_close_of_a_handle_in_a_handler_wakes_its_wait(backend, soon):
    with backend.popen(["sleep", "600"]) as process:
        handle = pyjob.ProcessHandle(process)
        soon(handle.close)
        with pytest.raises(ValueError, match="closed"):
            handle.wait(60)
        process.kill()


# A handler's exception, as Ctrl-C is one, comes at a random moment of what `attempt` does.
INTERRUPTED = """
import gc, random
from helpers.leftovers import roots_of

class Interrupt(Exception):
    pass

def interrupt(*_):
    if armed:
        raise Interrupt

sys.unraisablehook = lambda unraisable: None  # one that came in a finalizer
signal.signal(signal.SIGALRM, interrupt)
armed = False
hits = 0

def timed(attempt):
    begin = time.monotonic()
    attempt()
    return time.monotonic() - begin

def interrupted(attempt, enough):
    global armed, hits
    usual = sorted(timed(attempt) for _ in range(9))[4]
    while hits < enough:
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00001, usual))
            attempt()
            armed = False
        except Interrupt:
            hits += 1
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        yield
    gc.collect()

def directories():
    return sum(one.is_dir() for root in roots_of(os.getpid()) for one in root.rglob("*"))
"""


def test_an_interrupted_start_leaves_nothing_and_breaks_nothing(backend, owners):
    body = """
with pyjob.Job(backend=backend) as job:
    job.run(["true"])
    before = len(os.listdir("/dev/fd"))
    for _ in interrupted(lambda: job.popen(["true"]).wait(), 100):
        job.pids()
    job.wait(60)
    try:
        while True:
            os.waitpid(-1, 0)  # those whose PID the exception has kept from us, as stock's
    except ChildProcessError:
        pass
    for _ in range(100):
        job.popen(["true"]).wait()  # by the way of which what was still ending is tidied away
    descriptors = len(os.listdir("/dev/fd")) - before
    report(pids=job.pids(), descriptors=descriptors, open=len(pyjob.job._open), directories=directories())
"""
    owner = owners(INTERRUPTED + body, end="return", backend=str(backend))
    found = owner.ready(2 * DEADLINE)
    assert found.pop("directories") <= POOL + 1
    assert found == {"pids": [], "descriptors": 0, "open": 1}
    owner.end()
    assert owner.wait() == 0, owner.output


@pytest.mark.needs("named")
def test_a_name_is_free_again_after_an_interrupt(backend, owners):
    body = """
import warnings
warnings.simplefilter("ignore", ResourceWarning)

def make():
    with pyjob.Job(argument, backend=backend):
        pass

for _ in interrupted(make, 100):
    make()
report(directories=directories())
"""
    owner = owners(INTERRUPTED + body, end="return", backend=str(backend), argument=f"interrupted-{os.getpid()}")
    assert owner.ready(2 * DEADLINE)["directories"] <= POOL
    owner.end()
    assert owner.wait() == 0, owner.output
