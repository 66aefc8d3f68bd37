"""Everything is thread-safe; blocking calls release the GIL and wake when another thread closes the job."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import pyjob
from helpers.procs import DEADLINE, eventually
from helpers.tree import chain

SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]


def in_threads(count, action):
    """Runs `action(index)` in threads at once; re-raises what any of them raised."""
    failures = []
    gate = threading.Barrier(count)

    def run(index):
        try:
            gate.wait(DEADLINE)
            action(index)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
        assert not one.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]


def test_starts_from_many_threads(backend):
    with backend.job() as job:
        programs = []
        in_threads(8, lambda _: programs.extend(job.popen(SLEEPER) for _ in range(3)))
        assert job.pids() == sorted(one.pid for one in programs)
        job.kill()
        for one in programs:
            one.wait(DEADLINE)


def test_looking_and_killing_at_once(backend, tree):
    with backend.job() as job:
        family = tree(chain("top", "a", "b"))
        program = job.popen(family.argv)
        family.ready()
        known = set(family.pids())

        def action(index):
            for _ in range(20):
                if index == 0:
                    job.kill(timeout=DEADLINE)
                elif index == 1:
                    assert known.issuperset(job.pids())
                elif index == 2:
                    assert program.pid in job or program.pid not in job.pids()
                else:
                    job.send_signal(0 if os.name == "posix" else signal.SIGTERM)

        in_threads(4, action)
        family.assert_dead()
        program.wait(DEADLINE)


def test_wait_wakes_when_closed(backend, tree):
    job = backend.job()
    family = tree()
    program = job.popen(family.argv)
    family.ready()
    result = []

    def wait():
        try:
            result.append(job.wait(DEADLINE))
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    job.close()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    # The members died of the close: whichever the waiter saw first.
    assert result and (result[0] is None or isinstance(result[0], pyjob.JobClosedError))
    program.wait()


def test_wait_of_a_released_job_wakes_when_closed(backend, tree):
    """Nobody dies here: only the close can wake the waiter."""
    job = backend.job(kill_on_close=False)
    family = tree()
    program = job.popen(family.argv)
    family.ready()
    result = []

    def wait():
        try:
            result.append(job.wait(60))
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    job.close()
    thread.join(DEADLINE)
    assert not thread.is_alive() and isinstance(result[0], pyjob.JobClosedError)
    family.end()
    program.wait()


def test_the_gil_is_released(backend):
    with backend.job() as job:
        program = job.popen(SLEEPER)
        ticks = []
        thread = threading.Thread(target=lambda: [ticks.append(time.sleep(0.001)) for _ in range(20)])
        thread.start()
        with pytest.raises(subprocess.TimeoutExpired):
            job.wait(0.5)
        assert ticks, "no other thread ran during wait()"
        thread.join()
        job.kill()
        program.wait()


def test_closing_from_many_threads(backend, tree):
    job = backend.job()
    family = tree()
    program = job.popen(family.argv)
    family.ready()
    in_threads(4, lambda _: job.close())
    family.assert_dead()
    program.wait()


def test_collecting_from_many_threads(backend):
    program = backend.popen([sys.executable, "-S", "-c", "import sys; sys.exit(9)"])
    codes = []
    in_threads(4, lambda _: codes.append(program.wait(DEADLINE)))
    assert codes == [9] * 4
    program.job.close()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_control_c_ends_a_wait(backend, owners):
    body = """
    job = pyjob.Job(backend=backend)
    program = job.popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    begin = time.monotonic()
    try:
        job.wait(100)
    except KeyboardInterrupt:
        report(interrupted=time.monotonic() - begin)
    job.close()
    program.wait()
    """
    owner = owners(body, end="return", backend=str(backend))
    assert owner.ready()["interrupted"] < DEADLINE
    owner.end()
    assert owner.wait() == 0, owner.output


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals")
def test_a_handled_signal_does_not_end_a_wait(backend, owners):
    """EINTR is ours to handle: the wait goes on until its deadline or until the job is empty."""
    body = """
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    job = pyjob.Job(backend=backend)
    program = job.popen([sys.executable, "-S", "-c", "import time; time.sleep(1)"])
    job.wait(60)
    report(seen=len(seen), code=program.wait(30), pids=job.pids())
    again = job.popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    job.kill(30)
    report(killed=again.wait(30))
    signal.setitimer(signal.ITIMER_REAL, 0)
    job.close()
    """
    owner = owners(body, end="return", backend=str(backend))
    got = owner.ready()
    assert got["seen"] > 3 and got["code"] == 0 and got["pids"] == [] and got["killed"] == -9
    owner.end()
    assert owner.wait() == 0, owner.output
    eventually(lambda: owner.process.returncode == 0)
