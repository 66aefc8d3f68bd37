"""Pain 5. psutil 2534: A starts B starts C, B exits, and C is lost from the tree."""

from helpers.tree import node


def test_the_grandchild_is_still_found(backend, tree):
    family = tree(node("a", node("b", node("c"), exit=0)))
    with backend.popen(family.argv) as program:
        family.ready()
        assert family.pid("c") in program.job.pids()
        program.kill()
        program.wait()
        family.assert_dead(["a", "c"])
