"""Pain 12. Bazel 11910, 16649: killpg() after the reap; PDEATHSIG on a thread's exit."""

import os
import sys
import threading

import pytest

from helpers.procs import DEADLINE
from helpers.tree import chain


def test_the_exit_of_the_starting_thread_kills_nothing(backend, tree):
    with backend.job() as job:
        family = tree(chain("top", "child"))
        started = []
        thread = threading.Thread(target=lambda: started.append(job.popen(family.argv)))
        thread.start()
        thread.join()
        family.ready()
        family.assert_alive()
        assert job.pids() == family.pids()
        job.kill()
        started[0].wait(DEADLINE)


@pytest.mark.skipif(os.name == "nt", reason="process groups")
def test_after_the_reap_no_group_is_signalled(backend, monkeypatch):
    """The group's number can belong to a stranger by then."""
    program = backend.popen([sys.executable, "-S", "-c", ""])
    program.wait(DEADLINE)
    sent = []
    monkeypatch.setattr(os, "killpg", lambda *what: sent.append(what))
    program.kill()
    program.job.kill()
    program.job.send_signal(9)
    assert sent == []
    program.job.close()


@pytest.mark.skipif(os.name == "nt", reason="process groups")
def test_members_that_outlive_the_groups_leader(backend, tree):
    from helpers.tree import node

    family = tree(node("leader", node("member"), exit=0))
    program = backend.popen(family.argv)
    family.ready()
    assert program.wait(DEADLINE) == 0
    program.kill()  # stock would do nothing; the tree is ours to end
    program.job.kill()
    family.assert_dead(["member"])
    program.job.close()
