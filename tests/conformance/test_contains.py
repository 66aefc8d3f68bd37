"""`process in job`: a pinned look, for a PID or anything that has one."""

import os
import subprocess
import sys

import pytest

import pyjob
from helpers.tree import chain


def test_members_and_others(backend, tree, bystander):
    with backend.job() as job, backend.job() as other:
        family = tree(chain("top", "child", "grandchild"))
        program = job.popen(family.argv)
        family.ready()
        for pid in family.pids():
            assert pid in job
            assert pid in program.job
            assert pid not in other
        assert program in job
        with pyjob.ProcessHandle(family.pid("grandchild")) as handle:
            assert handle in job
            assert handle not in other
        assert bystander.pid not in job
        assert bystander.process not in job
        assert os.getpid() not in job
        job.kill()
        for pid in family.pids():
            assert pid not in job
        program.wait()
        assert program not in job


def test_a_sibling_is_no_member_of_a_private_job(backend, tree):
    with backend.job() as job:
        first, second = tree(chain("top", "child")), tree(chain("top", "child"))
        one, two = job.popen(first.argv), job.popen(second.argv)
        first.ready()
        second.ready()
        assert second.pid("child") in two.job
        assert second.pid("child") not in one.job
        assert second.pid("child") in job
        job.kill()
        one.wait()
        two.wait()


def test_a_pid_that_nobody_has(backend):
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    with backend.job() as job:
        assert gone.pid not in job
        assert 0x3FFFFF not in job


def test_an_empty_job_is_not_false(backend):
    with backend.job() as job:
        assert job
        assert not hasattr(type(job), "__len__")


@pytest.mark.parametrize("what", [None, "1", 1.5, b"1", object(), True])
def test_what_is_no_process(backend, what):
    with backend.job() as job, pytest.raises(TypeError):
        _ = what in job
