"""stop(): ask, wait up to grace, then kill."""

import os
import signal
import sys
import time

import pytest

from helpers.procs import DEADLINE
from helpers.tree import node

pytestmark = pytest.mark.skipif(os.name == "nt", reason="asking by signal; Windows has tests of its own")


def test_who_leaves_when_asked_is_not_killed(backend, tree):
    with backend.job() as job:
        family = tree(node("top", node("child", mark=True), mark=True))
        program = job.popen(family.argv)
        family.ready()
        begin = time.monotonic()
        job.stop(grace=100)
        assert time.monotonic() - begin < 90, "waited for its grace although all had left"
        assert program.wait(DEADLINE) == 0
        assert family.was_asked("top") and family.was_asked("child")
        family.assert_dead()


def test_who_does_not_listen_is_killed(backend, tree, bystander):
    """tox 1172: a child that ignores INT and TERM."""
    with backend.job() as job:
        family = tree(node("top", node("deaf", ignore=True), node("hears", mark=True), ignore=True))
        program = job.popen(family.argv)
        family.ready()
        job.stop(grace=0.5)
        family.assert_dead()
        assert family.was_asked("hears")
        assert program.wait(DEADLINE) == -signal.SIGKILL
    bystander.assert_alive()


def test_a_stopped_member_is_woken_to_hear(backend, tree):
    with backend.job() as job:
        family = tree(node("top", mark=True))
        program = job.popen(family.argv)
        family.ready()
        os.kill(program.pid, signal.SIGSTOP)
        job.stop(grace=100)
        assert program.wait(DEADLINE) == 0
        assert family.was_asked("top")


def test_popen_stop_asks_the_whole_tree_and_no_sibling(backend, tree):
    with backend.job() as job:
        first = tree(node("top", node("child", mark=True), mark=True))
        second = tree(node("top", mark=True))
        one, two = job.popen(first.argv), job.popen(second.argv)
        first.ready()
        second.ready()
        one.stop(100)
        assert one.wait(DEADLINE) == 0
        assert first.was_asked("child")
        second.assert_alive()
        assert not second.was_asked("top")
        job.kill()
        two.wait()


def test_no_grace_and_an_empty_job(backend, tree):
    with backend.job() as job:
        job.stop(grace=0)
        family = tree(node("deaf", ignore=True))
        program = job.popen(family.argv)
        family.ready()
        job.stop(grace=0)
        family.assert_dead()
        program.wait()


def test_the_default_disposition_of_a_plain_program(backend):
    with backend.job() as job:
        program = job.popen([sys.executable, "-S", "-c", "import time; print(flush=True); time.sleep(300)"], stdout=-1)
        program.stdout.read(1)
        job.stop(grace=100)
        assert program.wait(DEADLINE) == -signal.SIGTERM
        program.stdout.close()
