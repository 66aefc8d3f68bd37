"""A signal handler may close what the interrupted thread waits for."""

import signal
import sys

import pytest

import pyjob

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
