"""No fork, setsid, double fork, closed descriptor or changed environment leaves the job; and where one does, it is
said."""

import os
import sys

import pytest

from helpers.procs import Identity, eventually
from helpers.tree import chain, node

posix = pytest.mark.skipif(os.name == "nt", reason="a session is a POSIX thing")
ROADS = ["daemon"] if os.name == "nt" else ["setsid", "daemon"]


@pytest.mark.needs("escape_proof")
@pytest.mark.parametrize("road", ROADS)
def test_nobody_leaves(backend, tree, bystander, road):
    with backend.job() as job:
        family = tree(node("top", node("escaper", node("its-child"), how=road)))
        program = job.popen(family.argv)
        family.ready()
        assert job.pids() == family.pids()
        job.kill()
        family.assert_dead(deadline=5)
        program.wait()
        assert job.pids() == []
    bystander.assert_alive()


@pytest.mark.needs("escape_proof")
def test_escapers_whose_every_ancestor_is_gone(backend, tree):
    with backend.job() as job:
        family = tree(
            node("top", node("middle", node("one", node("two", how="daemon"), exit=0, how="daemon"), exit=0), exit=0)
        )
        program = job.popen(family.argv)
        family.ready()
        assert program.wait() == 0
        eventually(lambda: job.pids() == family.pids(["two"]))
        job.kill()
        family.assert_dead()


@posix
@pytest.mark.needs("escape_proof")
def test_an_escaper_of_one_program_is_not_another_programs(backend, tree):
    """Two jobs of one owner stay apart: killing one never touches the other's orphans."""
    with backend.job() as one, backend.job() as two:
        first = tree(node("top", node("daemon", how="daemon"), exit=0))
        second = tree(node("top", node("daemon", how="daemon"), exit=0))
        programs = [one.popen(first.argv), two.popen(second.argv)]
        first.ready()
        second.ready()
        for program in programs:
            program.wait()
        eventually(lambda: one.pids() == first.pids())
        one.kill()
        first.assert_dead()
        second.assert_alive()
        assert two.pids() == second.pids()
        two.kill()
        second.assert_dead()


SUBREAPER = """
import ctypes, subprocess, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
sys.exit(subprocess.call(sys.argv[1:]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl")
@pytest.mark.needs("escape_proof")
def test_a_members_own_subreaper(backend, tree):
    """A member that collects orphans by itself takes none out of the job."""
    with backend.job() as job:
        family = tree(node("top", node("middle", node("daemon", how="daemon"), exit=0), node("stays")))
        program = job.popen([sys.executable, "-S", "-c", SUBREAPER, *family.argv])
        family.ready()
        eventually(lambda: job.pids() == sorted([program.pid, *family.pids()]))
        job.kill()
        program.wait()
        family.assert_dead()


@posix
@pytest.mark.lacks("escape_proof")
@pytest.mark.parametrize("road", ROADS)
def test_the_weaker_promise_is_true_as_well(backend, tree, road):
    """A process group: who calls setsid() leaves, everybody else is caught. `escape_proof` is denied, so nobody is
    misled."""
    with backend.job() as job:
        assert not job.guarantees.escape_proof
        family = tree(node("top", node("stays", node("its-child")), node("leaves", node("follows"), how=road)))
        program = job.popen(family.argv)
        family.ready()
        assert job.pids() == family.pids(["top", "stays", "its-child"])
        job.kill()
        program.wait()
        family.assert_dead(["top", "stays", "its-child"])
        family.assert_alive(["leaves", "follows"])
        family.end()


@posix
@pytest.mark.needs("escape_proof")
def test_a_session_of_its_own_for_the_program(backend, tree):
    with backend.job() as job:
        family = tree(chain("top", "child"))
        program = job.popen(family.argv, start_new_session=True)
        family.ready()
        assert os.getsid(program.pid) == program.pid
        assert job.pids() == family.pids()
        child = Identity.of(family.pid("child"))
        job.kill()
        assert not child.alive()
        program.wait()
