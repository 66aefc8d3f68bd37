"""The native module called directly: whatever it is asked in whatever order, it answers or refuses."""

import os
import subprocess
import sys

import pytest

import pyjob
from helpers.procs import DEADLINE
from pyjob import _guard, _native

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]

BEGIN = """
import sys, threading
from pyjob import _guard, _native

backend = sys.argv[1]

def make(parent=None):
    return _native.Job.create(backend, parent, None, False, _guard.PATH)

"""


def survives(backend, code):
    """In a process of its own, as a crash would end it."""
    argv = [sys.executable, "-c", BEGIN + code, str(backend)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_walk_belongs_to_one_job(backend):
    others = [one.name for one in pyjob.backends() if one.available]
    with backend.job() as job, job.popen(SLEEP) as process:
        for name in others:
            with pyjob.Job(backend=name) as other, other.popen(SLEEP) as stranger:
                walk = job._core.walk()
                assert job._core.pin(process.pid, walk).pid == process.pid
                for pid in (process.pid, stranger.pid):
                    with pytest.raises(ValueError, match="another job"):
                        other._core.pin(pid, walk)
                other.kill()
        job.kill()


def test_a_walk_outlives_its_job(backend):
    with backend.job() as job, job.popen(SLEEP) as process:
        native = _native.Job.create(str(backend), job._core, None, False, _guard.PATH)
        walk = native.walk()
        assert native.pin(process.pid, walk) is None
        native.close(False, 0.0)
        del native
        del walk
        job.kill()


@pytest.mark.parametrize("seconds", [1e300, float("inf")])
def test_a_close_with_more_time_than_there_is(backend, seconds):
    with backend.job() as job:
        processes = [job.popen(SLEEP) for _ in range(10)]
        assert job._core.close(True, seconds) == []
    for process in processes:
        process.wait(DEADLINE)


def test_deeply_nested_jobs_and_a_small_stack(backend):
    code = """
def nest():
    first = last = make()
    try:
        for _ in range(4000):
            last = make(last)
        assert first.pids() == first.kill(5.0) == []
        assert first.wait(5.0)
    except OSError:
        pass  # a path has an end, and cgroup looks at so many levels only
    del last

threading.stack_size(128 * 1024)
thread = threading.Thread(target=nest)
thread.start()
thread.join()
"""
    survives(backend, code)


posix = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


@posix
def test_what_only_a_forked_child_may_do(backend):
    with backend.job() as job:
        assert job._core.guard_exec() != 0
        with pytest.raises(_native.UnsupportedReason):
            job._core.join()
        assert job.pids() == []


@posix
@pytest.mark.main_interpreter
def test_a_forked_child_finds_nothing_prepared(backend):
    with backend.job() as job:
        child = os.fork()
        if child == 0:
            os._exit(job._core.guard_exec() != 0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


@posix
@pytest.mark.lacks("own_child")
def test_guards_prepared_by_many_threads(backend):
    code = """
spec = ([b"true"], [b"/bin/true"], None, None, True, [], (-1,) * 6, True, False, -1, None, None, None, -1)
job = make()

def prepare():
    for _ in range(300):
        job.guard_prepare(*spec)

def finish():
    for _ in range(300):
        try:
            job.guard_finish()
        except OSError:
            pass  # nothing was prepared, or nobody became the guard

threads = [threading.Thread(target=one) for one in (prepare, prepare, finish, finish)]
for one in threads:
    one.start()
for one in threads:
    one.join()
assert job.close(True, 5.0) == []
"""
    survives(backend, code)
