"""Pain 1. CPython 81605, 75628, 121157: run(timeout) leaves grandchildren, or hangs on the pipe that they hold."""

import subprocess
import sys
import time

import pytest

from helpers.procs import DEADLINE
from helpers.tree import node


def run_out_of_time(backend, tree, root, **options):
    """run() with a timeout in which the tree could come up: on a loaded machine the first may be too short."""
    for timeout in (1.5, 6, 24):
        family = tree(root)
        begin = time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            backend.run(family.argv, timeout=timeout, **options)
        assert time.monotonic() - begin < timeout + DEADLINE, "hung on a pipe that somebody held"
        assert timeout - 1 < caught.value.timeout <= timeout
        if family.complete:
            family.ready()
            return family
    raise AssertionError("the tree never came up")


@pytest.mark.parametrize("pipes", [True, False], ids=["with-pipes", "without-pipes"])
def test_a_timeout_ends_the_grandchildren(backend, tree, bystander, pipes):
    root = node("top", node("child", node("grandchild", ignore=True)))
    family = run_out_of_time(backend, tree, root, capture_output=pipes)
    family.assert_dead()
    bystander.assert_alive()


def test_what_was_written_is_in_the_exception(backend):
    script = "import sys, time; print('before', flush=True); time.sleep(300)"
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        backend.run([sys.executable, "-S", "-c", script], timeout=4, capture_output=True)
    assert caught.value.output.strip() == b"before"


@pytest.mark.lacks("escape_proof")
def test_a_pipe_held_by_one_who_left(backend, tree):
    """Whoever escaped a process group may hold the pipe for ever: run() does not wait for its end."""
    family = run_out_of_time(backend, tree, node("top", node("left", how="setsid")), capture_output=True)
    family.assert_alive(["left"])
    family.end()
    family.assert_dead()
