"""However the owner ends, its members end with it: every lock of the tree can be taken, and no stranger is touched."""

import os
import sys

import pytest

from helpers.owner import ENDS
from helpers.tree import chain, node

CODES = {
    "return": 0,
    "exception": 1,
    "sys.exit": 3,
    "os._exit": 4,
    "SIGTERM": -15,
    "SIGKILL": -9,
    "SIGSTOP+SIGKILL": -9,
    "SIGSEGV": -11,
}

START = """
if argument["how"] == "job":
    job = pyjob.Job(backend=backend)
    program = job.popen(argument["argv"])
else:
    program = pyjob.Popen(argument["argv"], backend=backend)
"""


@pytest.fixture
def family(tree):
    return tree(
        node(
            "top",
            chain("a", "b", "c"),
            node("daemon", node("its-child"), how="daemon"),
            node("deaf", ignore=True),
            node("leaves", node("orphan"), exit=0),
        )
    )


@pytest.mark.needs("dies_with_owner", "escape_proof")
@pytest.mark.parametrize("in_thread", [False, True], ids=["main-thread", "thread-that-ends-early"])
@pytest.mark.parametrize("end", ENDS)
def test_owner_ends(backend, owners, family, bystander, end, in_thread):
    how = "popen" if in_thread else "job"
    owner = owners(
        START, end=end, backend=str(backend), in_thread=in_thread, argument={"how": how, "argv": family.argv}
    )
    owner.ready()
    family.ready()
    family.assert_alive()
    owner.end()
    code = owner.wait()
    assert code == CODES.get(end, code), owner.output
    family.assert_dead()
    bystander.assert_alive()


@pytest.mark.skipif(os.name == "nt", reason="execve")
@pytest.mark.needs("dies_with_owner")
def test_an_owner_that_execs_stays_the_owner(backend, owners, tree, folder):
    family = tree(chain("top", "child"))
    script = f"""
import os, time
open({str(folder / "executed")!r}, "w").close()
while not os.path.exists({str(folder / "end")!r}):
    time.sleep(0.01)
"""
    body = (
        START
        + """
    from pathlib import Path
    while not Path(argument["argv"][-2], "top.json").exists():
        time.sleep(0.01)
    (folder / "ready").touch()
    os.execv(sys.executable, [sys.executable, "-S", "-c", argument["script"]])
    """.replace("\n    ", "\n")
    )
    owner = owners(
        body, end="SIGKILL", backend=str(backend), argument={"how": "job", "argv": family.argv, "script": script}
    )
    from helpers.procs import eventually

    eventually((folder / "executed").exists)
    family.ready()
    family.assert_alive()
    (folder / "end").touch()
    assert owner.wait() == 0
    family.assert_dead()


@pytest.mark.needs("dies_with_owner")
def test_many_jobs_of_one_owner(backend, owners):
    """200; under Wine 40, as in test_after_failures.py."""
    body = """
    jobs = [pyjob.Job(backend=backend) for _ in range(argument["count"])]
    programs = [job.popen(argument["sleep"]) for job in jobs]
    report(pids=[one.pid for one in programs], each=all(job.pids() == [one.pid] for job, one in zip(jobs, programs)))
    """
    from helpers.procs import Identity, eventually

    sleep, count = (["ping", "-n", "300", "127.0.0.1"], 40) if os.name == "nt" else (["sleep", "300"], 200)
    owner = owners(body, end="SIGKILL", backend=str(backend), argument={"sleep": sleep, "count": count})
    got = owner.ready(120)
    assert got["each"]
    identities = [Identity.of(pid) for pid in got["pids"]]
    owner.end()
    owner.wait()
    eventually(lambda: not any(one.alive() for one in identities))


@pytest.mark.skipif(os.name == "nt", reason="os.wait()")
def test_an_owner_that_loops_over_wait(backend, owners):
    """No helper of ours is ever returned by os.wait(), nor keeps it waiting."""
    body = """
    job = pyjob.Job(backend=backend)
    programs = {}
    for code in (3, 4, 5):
        one = job.popen([sys.executable, "-S", "-c", f"import sys; sys.exit({code})"])
        programs[one.pid] = one
    own = os.fork()
    if own == 0:
        os._exit(6)
    seen = []
    try:
        while True:
            pid, status = os.wait()
            seen.append((pid == own or pid in programs, os.waitstatus_to_exitcode(status)))
    except ChildProcessError:
        pass
    report(seen=sorted(seen), own_child=job.guarantees.own_child, collected=[one.wait(30) for one in programs.values()])
    job.close()
    """
    owner = owners(body, end="return", backend=str(backend))
    got = owner.ready()
    owner.end()
    assert owner.wait() == 0, owner.output
    if got["own_child"]:
        assert got["seen"] == [[True, 3], [True, 4], [True, 5], [True, 6]]
    else:
        assert got["seen"] == [[True, 6]]
        assert got["collected"] == [3, 4, 5]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the guard in /proc")
@pytest.mark.needs("dies_with_owner")
def test_the_guard_killed_by_a_member(backend, owners, tree):
    """Not promised at that very moment, but what is started afterwards has a guard again, and nobody is left alone."""
    from helpers.procs import Identity, eventually, guards_of

    family = tree(chain("top", "child"))
    body = """
    job = pyjob.Job(backend=backend)
    program = job.popen(argument["first"])
    while not os.path.exists(argument["go"]):
        time.sleep(0.01)
    again = job.popen(argument["second"])
    (folder / "second").touch()
    """
    first = tree(chain("top", "child"))
    go = first.folder / "go"
    argument = {"first": first.argv, "second": family.argv, "go": str(go)}
    owner = owners(body, end="SIGKILL", backend=str(backend), argument=argument)
    first.ready()
    eventually(lambda: guards_of(owner.pid), message="the owner has no guard")
    guards = [Identity(one.pid, one.started) for one in guards_of(owner.pid)]
    for one in guards:
        os.kill(one.pid, 9)
    eventually(lambda: not any(one.alive() for one in guards))
    go.touch()
    owner.ready()
    family.ready()
    owner.end()
    owner.wait()
    family.assert_dead()
    first.end()
