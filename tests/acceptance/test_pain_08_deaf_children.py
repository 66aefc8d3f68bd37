"""Pain 8. tox 1172, 1772: a child that ignores INT and TERM."""

import os
import signal

from helpers.procs import DEADLINE
from helpers.tree import node


def test_stop_gets_through(backend, tree, bystander):
    family = tree(node("top", node("deaf", node("deaf-as-well", ignore=True), ignore=True), ignore=True))
    with backend.popen(family.argv) as program:
        family.ready()
        if os.name == "posix":
            for number in (signal.SIGINT, signal.SIGTERM):
                program.job.send_signal(number)
            family.assert_alive()
        program.stop(grace=0.3)
        assert program.wait(DEADLINE) != 0
        family.assert_dead()
    bystander.assert_alive()
