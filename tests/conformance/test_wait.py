"""wait(): until no member but the calling process lives; 0 looks once."""

import os
import subprocess
import sys
import threading
import time

import pytest

from helpers.procs import DEADLINE, Identity
from helpers.tree import node


def test_an_empty_job(backend):
    with backend.job() as job:
        assert job.wait() is None
        assert job.wait(0) is None


def test_a_timeout_is_subprocess_timeout_expired(backend, tree):
    with backend.job() as job:
        family = tree()
        program = job.popen(family.argv)
        family.ready()
        for timeout in (0, 0.05, -1):
            with pytest.raises(subprocess.TimeoutExpired):
                job.wait(timeout)
        family.assert_alive()
        job.kill()
        program.wait()


def test_waits_for_the_last_orphan(backend, tree):
    with backend.job() as job:
        family = tree(node("top", node("daemon", life=1, how="fork" if os.name == "posix" else "exec"), exit=0))
        program = job.popen(family.argv)
        family.ready()
        assert program.wait(DEADLINE) == 0
        job.wait(DEADLINE)
        family.assert_dead(deadline=5)


def test_an_uncollected_program_does_not_hold_it(backend):
    with backend.job() as job:
        program = job.popen([sys.executable, "-S", "-c", ""])
        identity = Identity.of(program.pid)
        job.wait(DEADLINE)
        assert not identity.alive()
        assert program.returncode is None
        assert program.wait() == 0


def test_a_kill_from_another_thread_ends_it(backend, tree):
    with backend.job() as job:
        family = tree()
        program = job.popen(family.argv)
        family.ready()
        timer = threading.Timer(0.1, job.kill)
        timer.start()
        job.wait(DEADLINE)
        timer.join()
        program.wait()


def test_a_timeout_is_kept_to(backend):
    with backend.job() as job:
        program = job.popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
        begin = time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired):
            job.wait(0.2)
        assert 0.19 <= time.monotonic() - begin < DEADLINE
        job.kill()
        program.wait()


@pytest.mark.parametrize("bad", ["1", b"1", object(), float("nan"), True])
def test_bad_timeouts(backend, bad):
    with backend.job() as job:
        for operation in (job.wait, job.kill, job.stop):
            with pytest.raises((TypeError, ValueError)):
                operation(bad)
