"""assign_self(): the article's case. From here on, whatever this process starts is a member; kill() spares it alone."""

import os
import sys

import pytest

from helpers.procs import DEADLINE

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") and os.name != "nt", reason="process groups cannot enclose their caller"
)


@pytest.fixture
def encloses(backend):
    if backend == "process-group":
        pytest.skip("see test_where_it_is_impossible")
    return backend


BODY = """
    job = pyjob.Job(backend=backend)
    job.assign_self()
    def library(how):
        argv = argument[how]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    started = [library("one"), library("two")]
    from pathlib import Path
    end = time.monotonic() + 60
    while not all(Path(path).exists() for path in argument["reports"]):
        assert time.monotonic() < end
        time.sleep(0.01)
    report(before=job.pids(), me=os.getpid(), inside=os.getpid() in job)
"""


def enclosed(owners, tree, backend, rest, end="return"):
    from helpers.tree import chain, node

    one = tree(node("top", chain("child", "grandchild"), node("daemon", node("its-child"), how="daemon")))
    two = tree(chain("top", "child"))
    reports = [str(family.folder / "top.json") for family in (one, two)]
    argument = {"one": one.argv, "two": two.argv, "reports": reports}
    owner = owners(BODY + rest, end=end, backend=str(backend), argument=argument)
    return owner, one, two


def test_kill_spares_the_caller_alone(encloses, owners, tree, bystander):
    rest = """
    job.kill()
    report(after=job.pids(), codes=[one.wait(30) for one in started])
    again = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    report(again=again.pid, third=job.pids())
    job.kill()
    again.wait(30)
    report(last=job.pids())
    job.close()
    report(closed=job.closed)
    """
    owner, one, two = enclosed(owners, tree, encloses, rest)
    got = owner.ready()
    one.ready()
    two.ready()
    me = got["me"]
    assert got["inside"]
    assert got["before"] == sorted([me, *one.pids(), *two.pids()])
    assert got["after"] == [me]
    assert all(got["codes"])
    assert got["third"] == sorted([me, got["again"]])
    assert got["last"] == [me]
    one.assert_dead()
    two.assert_dead()
    owner.end()
    assert owner.wait() == 0, owner.output
    bystander.assert_alive()


def test_closing_from_inside(encloses, owners, tree):
    """close() of a job that holds the caller: all but the caller end, and the caller goes on as if nothing had been."""
    rest = """
    job.close()
    job.close()
    for one in started:
        one.wait(30)
    with pyjob.Job(backend=backend) as other:
        program = other.popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
        report(other=other.pids() == [program.pid])
        other.kill()
        program.wait()
    report(closed=True)
    """
    owner, one, two = enclosed(owners, tree, encloses, rest)
    got = owner.ready()
    assert got["closed"] and got["other"]
    one.ready()
    two.ready()
    one.assert_dead()
    two.assert_dead()
    owner.end()
    assert owner.wait() == 0, owner.output


def test_the_end_of_the_process_ends_the_members(encloses, owners, tree):
    owner, one, two = enclosed(owners, tree, encloses, "", end="SIGKILL")
    one.ready()
    two.ready()
    owner.ready()
    if not encloses.has("dies_with_owner") or encloses == "reaper":
        # A subreaper's children are reparented when it dies: denied in job.guarantees, see the next test.
        owner.end()
        owner.wait()
        one.end()
        two.end()
        pytest.skip(f"{encloses}: not promised for a job that holds its owner")
    owner.end()
    owner.wait()
    one.assert_dead()
    two.assert_dead()


def test_what_is_lost_is_denied(encloses, owners):
    body = """
    job = pyjob.Job(backend=backend)
    before = list(job.guarantees)
    job.assign_self()
    report(before=before, after=list(job.guarantees))
    job.close()
    report(closed=list(job.guarantees))
    """
    owner = owners(body, end="return", backend=str(encloses))
    got = owner.ready()
    owner.end()
    assert owner.wait() == 0, owner.output
    assert set(got["after"]) <= set(got["before"])
    assert "atomic_kill" not in got["after"] or encloses == "job-object"
    if encloses == "reaper":
        assert "dies_with_owner" not in got["after"]
    else:
        assert ("dies_with_owner" in got["after"]) == ("dies_with_owner" in got["before"])


def test_a_required_guarantee_is_not_lowered(backend, owners):
    if backend != "reaper":
        pytest.skip("loses nothing that can be required of it")
    body = """
    job = pyjob.Job(backend=backend, require=("dies_with_owner",))
    try:
        job.assign_self()
    except pyjob.UnsupportedError as error:
        report(refused=str(error), after=list(job.guarantees))
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    report(pids=job.pids())
    child.kill()
    child.wait()
    job.close()
    """
    owner = owners(body, end="return", backend=str(backend))
    got = owner.ready()
    owner.end()
    assert owner.wait() == 0, owner.output
    assert got["refused"] and "dies_with_owner" in got["after"]
    assert got["pids"] == []


@pytest.mark.skipif(os.name == "nt", reason="os.wait()")
def test_no_orphan_is_left_for_the_callers_wait(encloses, owners):
    """Those included whom the member starts while it is being ended, and its own status not."""
    body = """
    job = pyjob.Job(backend=backend)
    job.assign_self()
    ends, waited = [], []
    for end in (job.kill, job.kill, job.close):
        process = subprocess.Popen(["sh", "-c", "for i in $(seq 1000); do sleep 300 & done; wait"])
        end()
        ends.append(process.wait(30))
        try:
            waited.append(os.waitpid(-1, os.WNOHANG))
        except ChildProcessError:
            pass
    report(ends=ends, waited=waited)
    job.close()
    """
    owner = owners(body, end="return", backend=str(encloses))
    got = owner.ready()
    owner.end()
    assert owner.wait() == 0, owner.output
    assert got["ends"] == [-9, -9, -9] and got["waited"] == []


@pytest.mark.skipif(os.name == "nt", reason="os.wait()")
def test_the_callers_own_exit_statuses_stay_its_own(encloses, owners):
    """Becoming the subreaper must not take a status that belongs to the caller, nor give it one that does not."""
    body = """
    job = pyjob.Job(backend=backend)
    job.assign_self()
    mine = {}
    for code in (3, 4, 5):
        pid = os.fork()
        if pid == 0:
            os._exit(code)
        mine[pid] = code
    orphans = subprocess.Popen([sys.executable, "-S", "-c", argument])
    mine[orphans.pid] = 6
    for _ in range(5):
        job.pids()
        job.kill(timeout=30)
    got = {}
    for pid in list(mine):
        found, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        got[pid] = code
    orphans.returncode = got[orphans.pid]
    report(mine=sorted(mine.values()), got=sorted(got.values()))
    job.close()
    """
    leaves = """import os, time
for _ in range(3):
    if os.fork() == 0:
        time.sleep(0.2)
        os._exit(9)
os._exit(6)"""
    owner = owners(body, end="return", backend=str(encloses), argument=leaves)
    got = owner.ready()
    owner.end()
    assert owner.wait() == 0, owner.output
    # kill() may have been faster than exit: then the status says so, but none is lost.
    assert len(got["got"]) == 4 and all(code in (*got["mine"], -9) for code in got["got"])


STARTER = """import subprocess, sys
for line in sys.stdin:
    one = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    print(one.pid, flush=True)
"""


def test_what_is_from_before_is_no_member_nor_what_it_starts(encloses, owners):
    body = """
    starter = subprocess.Popen(
        [sys.executable, "-S", "-c", argument], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    def start():
        print(file=starter.stdin, flush=True)
        return pyjob.ProcessHandle(int(starter.stdout.readline()))
    started = [start()]
    job = pyjob.Job(backend=backend)
    job.assign_self()
    started.append(start())
    report(alone=job.pids() == [os.getpid()], members=[one.pid in job for one in started])
    job.kill()
    report(spared=[one.is_alive() for one in started], starter=starter.poll())
    starter.kill()
    starter.wait()
    job.kill()
    report(orphans=[one.is_alive() for one in started])
    job.close()
    for one in started:
        one.kill()
        one.wait(30)
    """
    owner = owners(body, end="return", backend=str(encloses), argument=STARTER)
    got = owner.ready()
    owner.end()
    assert owner.wait() == 0, owner.output
    assert got == {
        "alone": True,
        "members": [False, False],
        "spared": [True, True],
        "starter": None,
        "orphans": [True, True],
    }


def test_popen_of_ours_inside(encloses, owners, tree):
    body = """
    job = pyjob.Job(backend=backend)
    job.assign_self()
    program = pyjob.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"], backend=backend)
    other = pyjob.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"], backend=backend)
    report(member=program.pid in job, pids=job.pids() == sorted([os.getpid(), program.pid, other.pid]))
    program.kill()
    program.wait(30)
    report(spared=other.poll() is None, still=other.pid in job)
    job.kill()
    other.wait(30)
    report(alone=job.pids() == [os.getpid()])
    job.close()
    """
    owner = owners(body, end="return", backend=str(encloses))
    assert owner.ready() == {"member": True, "pids": True, "spared": True, "still": True, "alone": True}
    owner.end()
    assert owner.wait() == 0, owner.output


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="cgroup")
def test_the_former_place(backend, owners):
    if backend != "cgroup":
        pytest.skip("only a cgroup is a place")
    body = """
    def where():
        return [line for line in open("/proc/self/cgroup") if line.startswith("0::")]
    before = where()
    job = pyjob.Job(backend=backend)
    job.assign_self()
    inside = where()
    job.close()
    report(moved=inside != before, back=where() == before)
    """
    owner = owners(body, end="return", backend="cgroup")
    assert owner.ready() == {"moved": True, "back": True}
    owner.end()
    assert owner.wait() == 0, owner.output


def test_where_it_is_impossible(backend, owners):
    if backend != "process-group":
        pytest.skip("possible")
    body = """
    job = pyjob.Job(backend=backend)
    try:
        job.assign_self()
    except pyjob.UnsupportedError as error:
        report(refused=str(error))
    job.close()
    """
    owner = owners(body, end="return", backend=str(backend))
    assert owner.ready()["refused"]
    owner.end()
    assert owner.wait(DEADLINE) == 0, owner.output
