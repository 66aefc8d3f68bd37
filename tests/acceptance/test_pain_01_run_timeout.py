"""Pain 1. CPython 81605, 75628, 121157: run(timeout) leaves grandchildren, or hangs on the pipe that they hold."""

import subprocess
import time

import pytest

from helpers.procs import DEADLINE
from helpers.tree import node


@pytest.mark.parametrize("pipes", [True, False], ids=["with-pipes", "without-pipes"])
def test_a_timeout_ends_the_grandchildren(backend, tree, bystander, pipes):
    family = tree(node("top", node("child", node("grandchild", ignore=True))))
    begin = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        backend.run(family.argv, timeout=2, capture_output=pipes)
    assert time.monotonic() - begin < 2 + DEADLINE, "hung on a pipe that a grandchild held"
    assert caught.value.timeout == 2
    family.ready()
    family.assert_dead()
    bystander.assert_alive()


def test_what_was_written_is_in_the_exception(backend, tree):
    import sys

    script = "import sys, time; print('before', flush=True); time.sleep(300)"
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        backend.run([sys.executable, "-S", "-c", script], timeout=1.5, capture_output=True)
    assert caught.value.output.strip() == b"before"


@pytest.mark.lacks("escape_proof")
def test_a_pipe_held_by_one_who_left(backend, tree):
    """Whoever escaped a process group may hold the pipe for ever: run() does not wait for its end."""
    family = tree(node("top", node("left", how="setsid")))
    begin = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        backend.run(family.argv, timeout=2, capture_output=True)
    assert time.monotonic() - begin < 2 + DEADLINE
    family.ready()
    family.assert_alive(["left"])
    family.end()
    family.assert_dead()
