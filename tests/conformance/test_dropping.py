"""A dropped Job warns and closes without blocking; a dropped Popen kills nothing, and its job ends with the process."""

import gc
import subprocess
import sys
import time
import warnings

import pytest

from helpers.procs import DEADLINE, eventually
from helpers.tree import chain
from pyjob import _guard, _native

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_a_dropped_job_warns_and_closes(backend, owners, tree):
    family = tree(chain("top", "child"))
    body = """
    import gc, warnings
    job = pyjob.Job(backend=backend)
    program = job.popen(argument)
    from pathlib import Path
    while not Path(argument[-2], "top.json").exists():
        time.sleep(0.01)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del program, job
        gc.collect()
    report(caught=[str(one.message) for one in caught if one.category is ResourceWarning])
    """
    owner = owners(body, end="return", backend=str(backend), argument=family.argv)
    caught = owner.ready()["caught"]
    assert any("unclosed job" in one for one in caught), caught
    family.ready()
    family.assert_dead()
    owner.end()
    assert owner.wait() == 0, owner.output


def test_a_closed_job_is_dropped_in_silence(backend):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        job = backend.job()
        job.close()
        del job
        gc.collect()


def test_the_interpreters_end_is_silent(backend):
    """Without a GIL, objects that threads have seen are freed when the modules are cleared already."""
    script = f"""
import sys, threading, pyjob
with pyjob.Job(backend={str(backend)!r}) as job:
    programs = [job.popen([sys.executable, "-S", "-c", "import time; time.sleep(100)"]) for _ in range(2)]
thread = threading.Thread(target=list, args=(programs,))
thread.start()
thread.join()
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_native_job_that_was_never_kept(backend):
    """As when a signal handler raises between its making and its first use: the jobs around it must not know it yet."""
    with backend.job() as job:
        for _ in range(50):
            _native.Job.create(str(backend), job._core, None, False, _guard.PATH)
            _native.Job.create(str(backend), None, None, False, _guard.PATH)
        assert job.pids() == []
        assert job.run([sys.executable, "-S", "-c", ""]).returncode == 0


def test_dropping_does_not_block(backend, tree):
    from helpers.tree import node

    family = tree(node("deaf", ignore=True))
    job = backend.job()
    program = job.popen(family.argv)
    family.ready()
    begin = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del job
        gc.collect()
    assert time.monotonic() - begin < DEADLINE
    program.kill()
    program.wait()
    program.job.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_dropped_popen_kills_nothing(backend, tree):
    family = tree(chain("top", "child"))
    program = backend.popen(family.argv)
    family.ready()
    pid = program.pid
    del program
    for _ in range(3):
        gc.collect()
        time.sleep(0.02)
    family.assert_alive()
    family.end()
    family.assert_dead()
    _collect_stock(pid)


def _collect_stock(pid):
    """What subprocess does when the next Popen is made: reaps the dropped ones that have ended."""
    eventually(lambda: (subprocess._cleanup(), not [one for one in subprocess._active or () if one.pid == pid])[1])


def test_a_dropped_popen_ends_with_the_process(backend, owners, tree):
    family = tree(chain("top", "child"))
    body = """
    import gc, warnings
    warnings.simplefilter("ignore")
    pyjob.Popen(argument, backend=backend)
    gc.collect()
    """
    owner = owners(body, end="return", backend=str(backend), argument=family.argv)
    owner.ready()
    family.ready()
    family.assert_alive()
    owner.end()
    assert owner.wait() == 0, owner.output
    family.assert_dead()


def test_a_program_that_was_collected_leaves_nothing(backend):
    for _ in range(20):
        backend.popen([sys.executable, "-S", "-c", ""]).wait(DEADLINE)
    gc.collect()
