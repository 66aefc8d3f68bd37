"""When the owner goes away, the members go too; with kill_on_close=False they stay."""

import pytest

import pyjob
from helpers.leftovers import roots_of
from helpers.tree import chain, node


@pytest.fixture
def swept(backend, owners):
    """What the members of a dead owner were in goes when they have gone: the next owner sweeps it."""

    def check(owner):
        following = owners("job = pyjob.Job(backend=backend)", end="return", backend=str(backend))
        following.ready()
        assert roots_of(owner.pid) == []
        following.end()
        assert following.wait() == 0

    return check


def test_close_ends_the_members(backend, tree, bystander):
    job = backend.job()
    family = tree(node("top", chain("a", "b"), node("deaf", ignore=True)))
    program = job.popen(family.argv)
    identities = family.ready()
    job.close()
    assert not [name for name, one in identities.items() if one.alive()]
    family.assert_dead()
    program.wait()
    bystander.assert_alive()


def test_kept_ones_stay_at_close(backend, tree):
    job = backend.job(kill_on_close=False)
    assert not job.guarantees.dies_with_owner
    family = tree(chain("top", "child"))
    program = job.popen(family.argv)
    family.ready()
    job.close()
    family.assert_alive()
    family.end()
    program.wait()


def test_kept_ones_survive_their_owner(backend, owners, tree, swept):
    family = tree(chain("top", "child"))
    body = """
    job = pyjob.Job(backend=backend, kill_on_close=False)
    program = job.popen(argument)
    """
    owner = owners(body, end="SIGKILL", backend=str(backend), argument=family.argv)
    owner.ready()
    family.ready()
    owner.end()
    owner.wait()
    family.assert_alive()
    family.end()
    family.assert_dead()
    swept(owner)


@pytest.mark.needs("dies_with_owner")
@pytest.mark.parametrize("how", ["job", "popen"])
def test_the_members_die_with_their_owner(backend, owners, tree, bystander, how):
    family = tree(node("top", chain("a", "b"), node("daemon", how="daemon"), node("deaf", ignore=True)))
    body = """
    if argument["how"] == "job":
        job = pyjob.Job(backend=backend)
        program = job.popen(argument["argv"])
    else:
        program = pyjob.Popen(argument["argv"], backend=backend)
    """
    owner = owners(body, end="SIGKILL", backend=str(backend), argument={"how": how, "argv": family.argv})
    owner.ready()
    family.ready()
    owner.end()
    owner.wait()
    family.assert_dead()
    bystander.assert_alive()


@pytest.mark.needs("dies_with_owner")
def test_an_empty_job_with_its_owner(backend, owners):
    owner = owners("job = pyjob.Job(backend=backend)", end="SIGKILL", backend=str(backend))
    owner.ready()
    owner.end()
    owner.wait()  # the rest is the look for leftovers: no guard, no leaf


@pytest.mark.lacks("dies_with_owner")
def test_the_weaker_promise(backend, owners, tree):
    """Without a guard a SIGKILLed owner leaves its members; that is what dies_with_owner=False says."""
    family = tree(chain("top", "child"))
    owner = owners(
        "job = pyjob.Job(backend=backend); program = job.popen(argument)",
        end="SIGKILL",
        backend=str(backend),
        argument=family.argv,
    )
    owner.ready()
    family.ready()
    owner.end()
    owner.wait()
    family.assert_alive()
    family.end()
    family.assert_dead()


def test_a_private_job_keeps_when_told(backend, tree):
    family = tree(chain("top", "child"))
    with backend.popen([*family.argv], kill_on_close=False) as program:
        family.ready()
        with pyjob.ProcessHandle(program.pid) as alone:  # on Windows its own terminate() would end the tree
            alone.kill()
        program.wait()
    family.assert_alive(["child"])
    family.end()
    family.assert_dead()
