"""Names are per user; an opener lists, checks, signals, stops, kills and waits, and never keeps members alive."""

import gc
import os
import sys
import time

import pytest

import pyjob
from helpers.procs import DEADLINE, eventually
from helpers.tree import chain


@pytest.fixture
def name():
    return f"test-{os.getpid()}-{time.monotonic_ns()}"


@pytest.mark.needs("named")
def test_open_sees_and_ends_the_members(backend, tree, name, bystander):
    with backend.job(name=name) as job:
        assert job.name == name
        family = tree(chain("top", "child"))
        program = job.popen(family.argv)
        family.ready()
        with pyjob.Job.open(name) as other:
            assert other.name == name
            assert other.backend == backend
            assert other.pids() == family.pids()
            assert family.pid("child") in other
            assert bystander.pid not in other
            other.kill()
            other.wait(DEADLINE)
        family.assert_dead()
        assert job.pids() == []
        program.wait()
    bystander.assert_alive()


@pytest.mark.needs("named")
def test_closing_what_was_opened_ends_nobody(backend, tree, name):
    with backend.job(name=name) as job:
        family = tree(chain("top", "child"))
        program = job.popen(family.argv)
        family.ready()
        other = pyjob.Job.open(name)
        other.close()
        family.assert_alive()
        pyjob.Job.open(name)
        gc.collect()
        family.assert_alive()
        job.kill()
        program.wait()


@pytest.mark.needs("named")
def test_an_opener_can_neither_start_nor_assign(backend, name):
    with backend.job(name=name), pyjob.Job.open(name) as other:
        with pytest.raises(pyjob.UnsupportedError):
            other.popen([sys.executable, "-c", ""])
        with pytest.raises(pyjob.UnsupportedError):
            other.assign(os.getpid())
        with pytest.raises(pyjob.UnsupportedError):
            other.assign_self()


@pytest.mark.needs("named")
def test_in_use_and_missing_and_again(backend, name):
    with pytest.raises(FileNotFoundError):
        pyjob.Job.open(name)
    for _ in range(2):
        with backend.job(name=name), pytest.raises(FileExistsError, match=name) as taken:
            backend.job(name=name)
        with pytest.raises(FileNotFoundError, match=name) as missing:
            pyjob.Job.open(name)
        assert taken.value.filename == missing.value.filename == name


@pytest.mark.needs("named", "dies_with_owner")
def test_an_opener_does_not_keep_the_members_alive(backend, owners, tree, name):
    family = tree(chain("top", "child"))
    body = """
    job = pyjob.Job(argument["name"], backend=backend)
    program = job.popen(argument["argv"])
    """
    owner = owners(body, end="SIGKILL", backend=str(backend), argument={"name": name, "argv": family.argv})
    owner.ready()
    family.ready()
    with pyjob.Job.open(name) as other:
        assert other.pids() == family.pids()
        owner.end()
        owner.wait()
        family.assert_dead()
        other.wait(DEADLINE)
    eventually(lambda: _missing(name))


def _missing(name):
    try:
        pyjob.Job.open(name).close()
    except FileNotFoundError:
        return True
    return False


@pytest.mark.needs("named")
def test_another_process_cannot_take_the_name(backend, owners, name):
    body = """
    try:
        pyjob.Job(argument, backend=backend).close()
    except FileExistsError as error:
        report(errno=error.errno)
    """
    with backend.job(name=name):
        owner = owners(body, end="return", backend=str(backend), argument=name)
        assert owner.ready().get("errno") is not None, "a name in use was given a second time"
        owner.end()
        assert owner.wait() == 0, owner.output


@pytest.mark.needs("named")
@pytest.mark.parametrize(
    "odd", ["ü-日本-🙂", "with space", "-dash", ".dot", "a" * 100, "%s%n", "pyjob-1-2-3", "con.txt"]
)
def test_odd_names(backend, odd):
    name = odd if len(odd) == 100 else f"{odd}{os.getpid()}"
    with backend.job(name=name), pyjob.Job.open(name) as other:
        assert other.name == name


@pytest.mark.parametrize("bad", ["", "a/b", "a\\b", "..", ".", "a\0b", "x" * 101, "ü" * 51, "a\nb", "\ud800"])
def test_bad_names(backend, bad):
    with pytest.raises(ValueError):
        backend.job(name=bad)
    with pytest.raises(ValueError):
        pyjob.Job.open(bad)


@pytest.mark.needs("named")
def test_a_str_that_lies_about_itself(backend):
    """What is checked is what the system call gets."""

    class Liar(str):
        def encode(self, *_):
            return b"fine"

        def __iter__(self):
            return iter("fine")

        def __eq__(self, other):
            return other == "fine"

        __hash__ = str.__hash__

    with pytest.raises(ValueError, match="slash"):
        backend.job(name=Liar("../../x"))
    with pytest.raises(ValueError, match="slash"):
        pyjob.Job.open(Liar("../../x"))


@pytest.mark.parametrize("bad", [1, b"name", True, ("a",)])
def test_names_of_a_wrong_type(backend, bad):
    with pytest.raises(TypeError):
        backend.job(name=bad)
    with pytest.raises(TypeError):
        pyjob.Job.open(bad)


@pytest.mark.lacks("named")
def test_where_there_are_no_names(backend, name):
    with pytest.raises(pyjob.UnsupportedError):
        backend.job(name=name)


@pytest.mark.needs("named")
@pytest.mark.skipif(os.name == "nt", reason="a name is a handle's there")
def test_what_outlives_a_killed_owner_can_be_opened(backend, owners, tree, name):
    """Also where a guard ends that owner's other job."""
    kept, ended = tree(chain("top", "child")), tree(chain("top", "child"))
    body = """
    keeps = pyjob.Job(argument["name"], backend=backend, kill_on_close=False)
    ends = pyjob.Job(backend=backend)
    programs = keeps.popen(argument["kept"]), ends.popen(argument["ended"])
    """
    argument = {"name": name, "kept": kept.argv, "ended": ended.argv}
    owner = owners(body, end="SIGKILL", backend=str(backend), argument=argument)
    owner.ready()
    kept.ready()
    ended.ready()
    owner.end()
    owner.wait()
    ended.assert_dead()
    with pyjob.Job.open(name) as other:
        assert other.pids() == kept.pids()
        other.kill()
    kept.assert_dead()
    eventually(lambda: _missing(name))
    # The guard has left with the last member that it was to end: the next owner removes what is empty now.
    another = owners("pyjob.Job(backend=backend).close()", end="return", backend=str(backend))
    another.ready()
    another.end()
    assert another.wait() == 0, another.output
