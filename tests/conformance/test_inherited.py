"""A process started in a job, and everything it starts, is in the job from its first instruction."""

import os
import sys

import pytest

from helpers.procs import Identity, eventually
from helpers.tree import chain, node

posix = pytest.mark.skipif(os.name == "nt", reason="fork() is a POSIX call")


def test_program_children_and_grandchildren_are_members(backend, tree):
    with backend.job() as job:
        family = tree(node("top", chain("child", "grandchild"), node("second")))
        program = job.popen(family.argv)
        family.ready()
        assert program.pid == family.pid("top")
        assert job.pids() == family.pids()
        job.kill()
        program.wait()


@posix
def test_forked_without_exec(backend, tree):
    with backend.job() as job:
        family = tree(node("top", node("forked", node("forked-again", how="fork"), how="fork")))
        program = job.popen(family.argv)
        family.ready()
        assert job.pids() == family.pids()
        job.kill()
        program.wait()


def test_orphans_stay_members(backend, tree):
    """psutil 2534: A starts B starts C; B leaves, and C belongs to nobody's tree."""
    with backend.job() as job:
        family = tree(node("top", node("leaves", node("orphan"), exit=0)))
        program = job.popen(family.argv)
        family.ready()
        eventually(lambda: job.pids() == family.pids(["top", "orphan"]))
        job.kill()
        program.wait()
        family.assert_dead()


def test_members_outlive_the_program(backend, tree):
    with backend.job() as job:
        family = tree(node("top", node("stays"), exit=7))
        with job.popen(family.argv) as program:
            family.ready()
            assert program.wait() == 7
            assert job.pids() == family.pids(["stays"])
            assert program.job.pids() == family.pids(["stays"])
        family.assert_dead()
        assert job.pids() == []


def test_every_quick_start_is_caught(backend, folder, tree):
    """A program that starts another and leaves at once: no start falls between birth and membership."""
    with backend.job() as job:
        families = [tree(node("top", node("left-behind"), exit=0)) for _ in range(6)]
        programs = [job.popen(one.argv) for one in families]
        for one in families:
            one.ready()
        for program in programs:
            assert program.wait() == 0
        assert job.pids() == sorted(one.pid("left-behind") for one in families)
        job.kill()


def test_first_instruction_of_the_program_itself(backend):
    with backend.job() as job:
        program = job.popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
        started = Identity.of(program.pid)
        assert program.pid in job, "not even a moment outside"
        assert job.pids() == [program.pid]
        job.kill()
        assert not started.alive()
        program.wait()
