"""Pain 10. jupyter_client 104: a restart that kills siblings or the caller's own group."""

import os

import pytest

from helpers.tree import chain


def test_a_restart_spares_siblings_and_the_caller(backend, tree, bystander):
    with backend.job() as job:
        neighbour = tree(chain("kernel", "its-child"))
        other = job.popen(neighbour.argv)
        neighbour.ready()
        for _ in range(3):
            family = tree(chain("kernel", "its-child"))
            program = job.popen(family.argv)
            family.ready()
            program.kill()
            program.wait()
            family.assert_dead()
            neighbour.assert_alive()
        bystander.assert_alive()
        job.kill()
        other.wait()


@pytest.mark.skipif(os.name == "nt", reason="process groups")
def test_in_the_callers_own_process_group(backend, tree, bystander):
    """Members that moved into the caller's own group do not take the caller along, nor does killing by group."""
    import sys

    if backend == "process-group":
        pytest.skip("there, the group is the job")
    with backend.popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"]) as program:
        assert os.getpgid(program.pid) == os.getpgrp(), "no group of its own unasked"
        program.kill()
        program.wait()
    bystander.assert_alive()
