"""Pain 11. Node tree-kill 45: a self-kill that stops half-way."""

import sys

import pytest

from helpers.tree import chain, node


def test_a_process_that_ends_its_own_tree(tree, owners, bystander):
    families = [tree(chain("top", "child", "grandchild")), tree(node("top", node("deaf", ignore=True)))]
    body = """
    children = [subprocess.Popen(argv) for argv in argument]
    from pathlib import Path
    while not all(Path(argv[-2], "top.json").exists() for argv in argument):
        time.sleep(0.01)
    (folder / "ready").touch()
    pyjob.kill_tree(os.getpid())
    (folder / "survived").touch()
    """
    owner = owners(body, end="return", argument=[one.argv for one in families])
    for one in families:
        one.ready()
    assert owner.wait() != 0
    for one in families:
        one.assert_dead()
    assert not (owner.folder / "survived").exists()
    bystander.assert_alive()


@pytest.mark.needs("escape_proof")
def test_a_job_that_ends_all_but_itself_and_then_itself(backend, tree, owners):
    family = tree(chain("top", "child", "grandchild"))
    body = """
    job = pyjob.Job(backend=backend)
    job.assign_self()
    child = subprocess.Popen(argument)
    from pathlib import Path
    while not Path(argument[-2], "top.json").exists():
        time.sleep(0.01)
    job.kill()
    report(alone=job.pids() == [os.getpid()])
    """
    owner = owners(body, end="os._exit", backend=str(backend), argument=family.argv)
    assert owner.ready()["alone"]
    family.ready()
    family.assert_dead()
    owner.end()
    assert owner.wait() == 4 if sys.platform != "win32" else True
