"""members(): lazily, each pinned first and verified after; pids(): the living, sorted."""

import os
import signal
import sys
import threading
import time
import types

import pytest

import pyjob
from helpers.procs import eventually, processes
from helpers.tree import chain, node


def test_members_are_handles_of_the_members(backend, tree):
    with backend.job() as job:
        family = tree(node("top", chain("a", "b"), node("c")))
        program = job.popen(family.argv)
        family.ready()
        handles = list(job.members())
        try:
            assert all(isinstance(one, pyjob.ProcessHandle) for one in handles)
            assert sorted(one.pid for one in handles) == family.pids()
            assert all(one.is_alive() for one in handles)
            for one in handles:
                if one.pid == family.pid("c"):
                    one.kill()
                    one.wait(30)
                    assert not one.is_alive()
            family.assert_dead(["c"])
            family.assert_alive(["top", "a", "b"])
        finally:
            for one in handles:
                one.close()
        job.kill()
        program.wait()


def test_members_is_lazy(backend, tree):
    with backend.job() as job:
        family = tree(node("top", *(node(f"n{i}") for i in range(5))))
        program = job.popen(family.argv)
        family.ready()
        walk = job.members()
        assert isinstance(walk, types.GeneratorType) or iter(walk) is walk
        first = next(walk)
        assert first.pid in job.pids()
        job.kill()  # whoever is dead by the time of its turn is not handed out
        assert [one.pid for one in walk] == []
        first.close()
        program.wait()


def test_more_members_than_descriptors(backend, owners):
    """5,000 members must be walkable with 256 descriptors; here 60 with 40."""
    if os.name == "nt":
        pytest.skip("no descriptor limit")
    body = """
    import resource
    job = pyjob.Job(backend=backend)
    program = job.popen([sys.executable, "-S", "-c", argument])
    end = time.monotonic() + 60
    while len(job.pids()) != 60:
        assert time.monotonic() < end, job.pids()
        time.sleep(0.01)
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    count = 0
    for one in job.members():
        count += one.is_alive()
        one.close()
    report(count=count)
    job.kill()
    program.wait()
    job.close()
    """
    crowd = "import os, time\nfor _ in range(59):\n    if os.fork() == 0:\n        break\ntime.sleep(300)"
    owner = owners(body, end="return", backend=str(backend), argument=crowd)
    assert owner.ready()["count"] == 60
    owner.end()
    assert owner.wait() == 0, owner.output


@pytest.mark.skipif(os.name == "nt", reason="fork")
def test_a_deep_tree(backend, folder):
    """Looking at a member must not cost the more, the deeper it is: the yardstick is pids(), which is one pass."""
    depth = 250
    script = f"""
import os, time
for level in range({depth - 1}):
    if os.fork():
        break
else:
    open({str(folder / "deep")!r}, "w").close()
time.sleep(300)
"""

    def cost(act):
        begun = time.process_time()
        act()
        return time.process_time() - begun

    with backend.job() as job:
        program = job.popen([sys.executable, "-S", "-c", script])
        eventually((folder / "deep").exists, 60)
        assert sum(one.is_alive() for one in job.members()) == depth
        one_pass = min(cost(job.pids) for _ in range(5)) + 0.01
        assert min(cost(lambda: list(map(bool, job.members()))) for _ in range(3)) < 12 * one_pass
        assert min(cost(lambda: job.send_signal(0)) for _ in range(3)) < 12 * one_pass
        job.kill(60)
        program.wait()


def test_a_walk_from_two_threads(backend, tree):
    """One iterator, shared: everybody is handed out once."""
    with backend.job() as job:
        family = tree(node("top", *(node(f"n{i}") for i in range(20))))
        program = job.popen(family.argv)
        family.ready()

        def walk_once():
            walk, found = job.members(), []

            def take():
                for one in walk:
                    found.append(one.pid)
                    one.close()

            threads = [threading.Thread(target=take) for _ in range(4)]
            for one in threads:
                one.start()
            for one in threads:
                one.join(30)
            return sorted(found)

        gil = getattr(sys, "_is_gil_enabled", lambda: True)()
        for _ in range(1 if gil else 300):  # there one in a hundred went wrong
            assert walk_once() == family.pids()
        job.kill()
        program.wait()


def test_a_walk_outlives_its_job(backend, tree):
    """What an iterator keeps goes with it, whenever that is."""
    job = backend.job()
    family = tree(chain("top", "child"))
    program = job.popen(family.argv)
    family.ready()
    walk = job.members()
    next(walk).close()
    job.close()
    with pytest.raises(pyjob.JobClosedError):
        next(walk)
    program.wait()
    del walk


def test_pids_of_an_empty_job(backend):
    with backend.job() as job:
        assert job.pids() == []
        assert list(job.members()) == []


def test_pids_are_sorted_ints(backend, tree):
    with backend.job() as job:
        families = [tree(chain("top", "child")) for _ in range(3)]
        programs = [job.popen(one.argv) for one in families]
        for one in families:
            one.ready()
        pids = job.pids()
        assert pids == sorted(pid for one in families for pid in one.pids())
        assert all(type(pid) is int for pid in pids)
        job.kill()
        for program in programs:
            program.wait()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_zombies_are_not_living(backend, folder):
    """The program is dead but not collected, and one member is a zombie because its parent never waits."""
    script = f"""
import os, time
pid = os.fork()
if pid == 0:
    os._exit(0)
open({str(folder / "zombie")!r}, "w").write(str(pid))
time.sleep(300)
"""
    with backend.job() as job:
        program = job.popen([sys.executable, "-S", "-c", script])
        eventually((folder / "zombie").exists)
        eventually((folder / "zombie").read_text)
        zombie = int((folder / "zombie").read_text())
        eventually(lambda: any(one.pid == zombie and one.state == "Z" for one in processes()))
        assert job.pids() == [program.pid]
        assert zombie not in job
        os.kill(program.pid, signal.SIGKILL)
        eventually(lambda: job.pids() == [])
        assert program.pid not in job
        assert program.wait() == -signal.SIGKILL
