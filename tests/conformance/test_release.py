"""release(): the members live on, without owner and without guard."""

import sys

import pytest

import pyjob
from helpers.leftovers import roots_of
from helpers.procs import DEADLINE, Identity, eventually, guards_of
from helpers.tree import chain


@pytest.fixture
def swept(backend, owners):
    """What the members of a dead owner were in goes when they have gone: the next owner sweeps it."""

    def check(owner):
        following = owners("job = pyjob.Job(backend=backend)", end="return", backend=str(backend))
        following.ready()
        assert roots_of(owner.pid) == []
        following.end()
        assert following.wait() == 0

    return check


def test_close_after_release_ends_nobody(backend, tree):
    job = backend.job()
    family = tree(chain("top", "child"))
    program = job.popen(family.argv)
    family.ready()
    job.release()
    assert not job.guarantees.dies_with_owner
    assert job.pids() == family.pids()
    program.job.close()
    job.close()
    family.assert_alive()
    family.end()
    program.wait(DEADLINE)


def test_the_owners_end_after_release_ends_nobody(backend, owners, tree, swept):
    family = tree(chain("top", "child"))
    body = """
    job = pyjob.Job(backend=backend)
    program = job.popen(argument)
    from pathlib import Path
    while not Path(argument[-2], "top.json").exists():
        time.sleep(0.01)
    job.release()
    """
    owner = owners(body, end="SIGKILL", backend=str(backend), argument=family.argv)
    owner.ready()
    family.ready()
    guards = guards_of(owner.pid) if sys.platform.startswith("linux") else []
    owner.end()
    owner.wait()
    if backend != "reaper":  # there the guard is the program's parent, and stays until its tree is empty
        gone(guards)
    family.assert_alive()
    family.end()
    family.assert_dead()
    gone(guards)
    swept(owner)


def gone(guards):
    eventually(lambda: not any(Identity(one.pid, one.started).alive() for one in guards), message="a guard stays")


def test_kill_after_release_still_works(backend, tree):
    with backend.job() as job:
        family = tree(chain("top", "child"))
        program = job.popen(family.argv)
        family.ready()
        job.release()
        job.kill()
        family.assert_dead()
        program.wait()


def test_release_twice_and_of_an_empty_job(backend):
    job = backend.job()
    job.release()
    job.release()
    job.close()
    with pytest.raises(pyjob.JobClosedError):
        job.release()


def test_the_exit_status_after_release(backend):
    with backend.job() as job:
        program = job.popen([sys.executable, "-S", "-c", "import sys; sys.stdin.read(); sys.exit(7)"], stdin=-1)
        job.release()
        program.stdin.close()
        assert program.wait(DEADLINE) == 7
