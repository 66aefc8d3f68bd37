"""What only the backend `cgroup` does: leaves, the owner's root, its guard, the sweep."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import pyjob
from helpers.leftovers import members, own_cgroup, roots_of
from helpers.procs import AS_NOBODY, DEADLINE, Identity, alive, eventually, processes
from helpers.tree import chain, node
from helpers.under_test import Backend

IDLE = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]


@pytest.fixture(autouse=True)
def _needs_cgroup() -> None:
    why = Backend.find("cgroup")[1]
    if why:
        pytest.skip(why)


def guards_of(pid: int) -> list[Identity]:
    """The guards of this owner: each has it as a pidfd, or where there is none its /proc/PID/stat."""
    found = []
    for seen in processes():
        if seen.comm == "pyjob-guard" and seen.argv()[1:2] == ["cgroup"] and seen.state not in "ZX":
            proc, fd = Path(f"/proc/{seen.pid}"), seen.argv()[2]
            try:
                watched = os.readlink(proc / "fd" / fd) == f"/proc/{pid}/stat"
                watched = watched or f"Pid:\t{pid}\n" in (proc / "fdinfo" / fd).read_text()
            except OSError:
                continue  # it has ended meanwhile
            if watched:
                found.append(Identity(seen.pid, seen.started))
    return found


def where(pid: int | str = "self") -> str:
    return next(line[3:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))


def root_gone(pid: int) -> bool:
    return not roots_of(pid)


# ---- many


def test_a_thousand_members(folder):
    script = "i=0; while [ $i -lt 999 ]; do sleep 300 & i=$((i+1)); done; wait"
    with pyjob.Job(backend="cgroup") as job:
        program = job.popen(["sh", "-c", script])
        eventually(lambda: len(job.pids()) == 1000)
        everybody = job.pids()
        assert everybody == sorted(set(everybody))
        job.kill()
        assert job.pids() == []
        assert not [pid for pid in everybody if alive(pid)], "kill() returns when they are dead"
        assert program.wait(DEADLINE) == -signal.SIGKILL


def test_a_thousand_jobs_take_no_descriptors():
    before = len(os.listdir("/proc/self/fd"))
    jobs = [pyjob.Job(backend="cgroup") for _ in range(1000)]
    assert len(os.listdir("/proc/self/fd")) - before < 10
    for job in jobs:
        job.close()
    (root,) = roots_of(os.getpid())
    assert len([one for one in root.iterdir() if one.is_dir()]) <= 8


@pytest.mark.parametrize("end", ["kill", "close"])
def test_a_job_ends_though_there_is_no_descriptor_left(owners, tree, end):
    if not any((root / "cgroup.kill").exists() for root in [own_cgroup(), *own_cgroup().iterdir()]):
        pytest.skip("below Linux 5.14 it takes more than one")
    family = tree(chain("top", "child"))
    body = f"""
    import resource
    job = pyjob.Job(backend="cgroup")
    program = job.popen(argument)
    while not (folder / "next").exists():
        time.sleep(0.01)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        while True:
            os.open(os.devnull, os.O_RDONLY)
    except OSError:
        pass
    job.{end}()
    ended = program.wait(30)
    os.closerange(100, 200)
    report(ended=ended)
    """
    owner = owners(body, end="return", backend="cgroup", argument=family.argv)
    family.ready()
    (owner.folder / "next").touch()
    assert owner.ready() == {"ended": -9}
    family.assert_dead()
    owner.end()
    assert owner.wait() == 0, owner.output


STORM = """
import os, sys, time
fuse = time.monotonic() + 120
for _ in range(16):
    if os.fork() == 0:
        while time.monotonic() < fuse:
            if os.fork():
                os._exit(0)
            os.setsid() if os.getpid() != os.getsid(0) else None
        os._exit(0)
time.sleep(120)
"""


def test_a_fork_storm():
    with pyjob.Job(backend="cgroup") as job:
        program = job.popen([sys.executable, "-S", "-c", STORM])
        eventually(lambda: len(job.pids()) > 8)
        job.kill()
        assert job.pids() == []
        program.wait(DEADLINE)


# ---- the owner's end


@pytest.mark.parametrize("end", ["SIGKILL", "os._exit", "return"])
def test_the_end_of_the_owner(owners, tree, end):
    family = tree(node("top", chain("child", "grandchild"), node("daemon", node("its-child"), how="daemon")))
    body = """
    job = pyjob.Job(backend="cgroup")
    program = job.popen(argument)
    """
    owner = owners(body, end=end, backend="cgroup", argument=family.argv)
    owner.ready()
    family.ready()
    assert len(guards_of(owner.pid)) == 1 and len(roots_of(owner.pid)) == 1
    owner.end()
    owner.wait()
    family.assert_dead(deadline=1.0)
    eventually(lambda: root_gone(owner.pid), 1.0, "the root is still there")
    eventually(lambda: not guards_of(owner.pid), 1.0, "the guard is still there")


@pytest.mark.parametrize("seed", range(5))
def test_the_owner_is_killed_while_it_starts(owners, seed):
    body = """
    def starts():
        while True:
            kept.append(pyjob.Popen(argument, backend="cgroup"))
            if len(kept) > 30:
                kept.pop(0).kill()
    kept = []
    for _ in range(4):
        threading.Thread(target=starts, daemon=True).start()
    time.sleep(0.2)
    report(started=len(kept))
    """
    mark = f"pyjob-{os.getpid()}-{time.monotonic_ns()}"
    owner = owners(body, end="SIGKILL", backend="cgroup", argument=["sleep", "300"], env={**os.environ, "MARK": mark})
    owner.ready()
    time.sleep(seed * 0.003)
    owner.end()
    owner.wait()
    needle = f"MARK={mark}".encode()

    def left() -> list[str]:
        return [str(one) for one in processes() if one.state not in "ZX" and needle in one.environ()]

    eventually(lambda: not left(), 1.0, lambda: f"live on: {left()}")
    eventually(lambda: root_gone(owner.pid), 1.0, "the root is still there")


def test_what_was_released_lives_on_and_its_leaf_is_swept_later(owners, tree):
    family, doomed = tree(chain("top", "child")), tree(chain("other"))
    body = """
    job = pyjob.Job(backend="cgroup")
    kept = job.popen(argument[0])
    doomed = pyjob.Popen(argument[1], backend="cgroup")
    job.release()
    """
    owner = owners(body, end="SIGKILL", backend="cgroup", argument=[family.argv, doomed.argv])
    owner.ready()
    family.ready()
    doomed.ready()
    owner.end()
    owner.wait()
    doomed.assert_dead()
    eventually(lambda: not guards_of(owner.pid), message="the guard goes")
    family.assert_alive()
    (root,) = roots_of(owner.pid)
    assert members(root) == set(family.pids())
    family.end()
    eventually(lambda: not members(root))
    sweep = owners("job = pyjob.Job(backend='cgroup')", end="return", backend="cgroup")
    sweep.ready()
    assert root_gone(owner.pid), "the next owner in this group clears up"
    sweep.end()
    sweep.wait()


def test_owner_and_guard_killed_in_one_instant(owners, tree):
    """Not promised; but the next owner in this group does what the guard could not."""
    family = tree(chain("top", "child"))
    body = "program = pyjob.Popen(argument, backend='cgroup')"
    owner = owners(body, end="SIGSTOP+SIGKILL", backend="cgroup", argument=family.argv)
    owner.ready()
    family.ready()
    (guard,) = guards_of(owner.pid)
    guard.end()
    owner.end()
    owner.wait()
    family.assert_alive()
    sweep = owners("job = pyjob.Job(backend='cgroup')", end="return", backend="cgroup")
    sweep.ready()
    family.assert_dead()
    sweep.end()
    sweep.wait()
    again = owners("job = pyjob.Job(backend='cgroup')", end="return", backend="cgroup")
    again.ready()
    assert root_gone(owner.pid)
    again.end()
    again.wait()


def test_a_living_owner_without_a_guard_is_not_swept(owners, tree):
    family = tree(chain("top", "child"))
    body = "program = pyjob.Popen(argument, backend='cgroup')"
    owner = owners(body, end="SIGKILL", backend="cgroup", argument=family.argv)
    owner.ready()
    family.ready()
    (guard,) = guards_of(owner.pid)
    guard.end()
    eventually(lambda: not guard.alive())
    other = owners("job = pyjob.Job(backend='cgroup')", end="return", backend="cgroup")
    other.ready()
    family.assert_alive()
    other.end()
    other.wait()
    family.end()
    owner.end()
    owner.wait()
    sweep = owners("job = pyjob.Job(backend='cgroup')", end="return", backend="cgroup")
    sweep.ready()
    assert root_gone(owner.pid)
    sweep.end()
    sweep.wait()


# ---- the guard


def test_a_dead_guard_is_replaced(owners, tree):
    family = tree(chain("top", "child"))
    body = """
    first = pyjob.Popen(argument, backend="cgroup")
    report(first=True)
    while not (folder / "next").exists():
        time.sleep(0.01)
    second = pyjob.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"], backend="cgroup")
    report(second=second.pid)
    """
    owner = owners(body, end="SIGKILL", backend="cgroup", argument=family.argv)
    eventually(lambda: owner.reported.get("first"))
    family.ready()
    (guard,) = guards_of(owner.pid)
    guard.end()
    eventually(lambda: not guard.alive())
    family.assert_alive()
    (owner.folder / "next").touch()
    second = owner.ready()["second"]
    assert len(guards_of(owner.pid)) == 1
    owner.end()
    owner.wait()
    family.assert_dead(deadline=1.0)
    eventually(lambda: not alive(second), 1.0)
    eventually(lambda: root_gone(owner.pid), 1.0)


@pytest.mark.parametrize(
    "operation",
    [
        "job.pids()",
        "job.guarantees",
        "job.send_signal(0)",
        "job.kill()",
        "other.pids()",
    ],
)
def test_a_dead_guard_is_replaced_by_whatever_comes_next(owners, tree, operation):
    family = tree(chain("top", "child"))
    body = f"""
    job, other = pyjob.Job(backend="cgroup"), pyjob.Job(backend="cgroup")
    program = job.popen(argument)
    report(first=True)
    while not (folder / "next").exists():
        time.sleep(0.01)
    {operation}
    """
    owner = owners(body, end="SIGKILL", backend="cgroup", argument=family.argv)
    eventually(lambda: owner.reported.get("first"))
    family.ready()
    (guard,) = guards_of(owner.pid)
    guard.end()
    eventually(lambda: not guard.alive())
    (owner.folder / "next").touch()
    owner.ready()
    eventually(lambda: len(guards_of(owner.pid)) == 1)
    owner.end()
    owner.wait()
    family.assert_dead()


def test_a_waiting_owner_replaces_its_guard(owners, tree):
    family = tree(chain("top", "child"))
    body = """
    job = pyjob.Job(backend="cgroup")
    program = job.popen(argument)
    threading.Thread(target=job.wait, daemon=True).start()
    """
    owner = owners(body, end="SIGKILL", backend="cgroup", argument=family.argv)
    owner.ready()
    family.ready()
    (guard,) = guards_of(owner.pid)
    guard.end()
    eventually(lambda: not guard.alive() and len(guards_of(owner.pid)) == 1)
    owner.end()
    owner.wait()
    family.assert_dead()


def test_without_a_guard_nothing_dies_with_the_owner(owners):
    """Killed, and not to be replaced."""
    body = """
    import resource
    job = pyjob.Job(backend="cgroup")
    report(first=job.guarantees.dies_with_owner)
    while not (folder / "next").exists():
        time.sleep(0.01)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    second = job.guarantees.dies_with_owner
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report(second=second, third=job.guarantees.dies_with_owner)
    job.close()
    """
    owner = owners(body, end="return", backend="cgroup")
    eventually(lambda: owner.reported.get("first"))
    (guard,) = guards_of(owner.pid)
    guard.end()
    eventually(lambda: not guard.alive())
    (owner.folder / "next").touch()
    assert owner.ready() == {"first": True, "second": False, "third": True}
    owner.end()
    assert owner.wait() == 0, owner.output


def test_a_guard_that_replaces_another_is_no_member(owners):
    body = """
    job = pyjob.Job(backend="cgroup")
    job.assign_self()
    report(inside=True)
    while not (folder / "next").exists():
        time.sleep(0.01)
    inner = pyjob.Job(backend="cgroup")
    report(pids=job.pids())
    job.kill()
    """
    owner = owners(body, end="return", backend="cgroup")
    eventually(lambda: owner.reported.get("inside"))
    (guard,) = guards_of(owner.pid)
    guard.end()
    eventually(lambda: not guard.alive())
    (owner.folder / "next").touch()
    assert owner.ready()["pids"] == [owner.pid]
    assert len(guards_of(owner.pid)) == 1, "kill() left it alone"
    owner.end()
    assert owner.wait() == 0, owner.output


def test_a_missing_guard_is_an_error_that_names_it(monkeypatch, folder):
    missing = str(folder / "no guard")
    monkeypatch.setattr("pyjob._guard.PATH", missing)
    info = next(one for one in pyjob.backends() if one.name == "cgroup")
    assert not info.available and missing in info.why and info.help


def test_the_guard_never_shows_up_in_wait(owners):
    body = """
    job = pyjob.Job(backend="cgroup")
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        report(nobody=True)
    """
    owner = owners(body, end="return", backend="cgroup")
    assert owner.ready() == {"nobody": True}
    owner.end()
    assert owner.wait() == 0


# ---- places


def test_leaves_are_below_the_callers_own_group():
    with pyjob.Job(backend="cgroup") as job:
        program = job.popen(IDLE)
        assert where(program.pid).startswith(
            where().rstrip("/") + f"/pyjob-{os.stat('/proc/self/ns/pid').st_ino}-{os.getpid()}-"
        )
        job.kill()
        program.wait(DEADLINE)


def test_a_leaf_has_the_usual_rights_whatever_the_umask():
    former = os.umask(0o777)
    try:
        with pyjob.Job(backend="cgroup") as job, pyjob.Job(backend="cgroup", kill_on_close=False) as kept:
            os.umask(former)
            (root,) = roots_of(os.getpid())
            modes = {stat.S_IMODE(one.stat().st_mode) for one in root.iterdir() if one.is_dir()}
            assert modes == {0o755, 0o1755}
            assert stat.S_IMODE(root.stat().st_mode) == 0o4711, "only the owner may open it, and so lock it"
            assert job.pids() == kept.pids() == []
    finally:
        os.umask(former)


def cat_in_leaf() -> tuple[pyjob.Popen[bytes], Path]:
    program = pyjob.Popen(["cat"], stdin=subprocess.PIPE, backend="cgroup")
    (leaf,) = (one for root in roots_of(os.getpid()) for one in root.iterdir() if program.pid in members(one))
    return program, leaf


@pytest.mark.parametrize("change", ["frozen", "mode", "group"])
def test_a_leaf_is_used_again_only_as_it_was_made(change):
    for _ in range(12):  # more than are kept
        program, leaf = cat_in_leaf()
        assert program.stdin
        program.stdin.close()
        eventually(lambda leaf=leaf: not members(leaf))
        if change == "frozen":
            (leaf / "cgroup.freeze").write_text("1")
        elif change == "mode":
            leaf.chmod(0o777)
        else:
            (leaf / "left").mkdir()
        assert program.wait(DEADLINE) == 0
        assert not leaf.exists()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_leaf_that_somebody_removed_meanwhile(replaced):
    """The hot one is held open: what is open must not be taken for what has its name now."""
    for _ in range(12):
        program, leaf = cat_in_leaf()
        program.communicate()
        leaf.rmdir()
        if replaced:
            leaf.mkdir()
    program = pyjob.Popen(["cat"], stdin=subprocess.PIPE, backend="cgroup")
    assert program.pid in program.job
    program.kill()
    assert program.wait(DEADLINE) == -9
    program.stdin.close()


@pytest.mark.parametrize(
    "end", [lambda job: job.kill(), lambda job: job.stop(0.2), lambda job: job.close()], ids=["kill", "stop", "close"]
)
def test_a_start_into_a_frozen_job_holds_up_no_other_thread(end):
    """It is held in vfork, deaf to all signals. Who ends the job ends that, too."""
    started = []
    with pyjob.Job(backend="cgroup") as job:
        first = job.popen(IDLE)
        (leaf,) = (
            one for root in roots_of(os.getpid()) for one in root.glob("job-*/job-*") if first.pid in members(one)
        )
        freeze = leaf.parent / "cgroup.freeze"
        if not freeze.exists():
            pytest.skip("below Linux 5.2 nothing can be frozen")
        starter = threading.Thread(target=lambda: started.append(job.popen(IDLE)), daemon=True)
        ender = threading.Thread(target=end, args=[job], daemon=True)
        freeze.write_text("1")
        try:
            starter.start()
            eventually(lambda: len(job.pids()) == 2)
            assert starter.is_alive()
            ender.start()
            for thread in (ender, starter):
                thread.join(DEADLINE / 2)
                assert not thread.is_alive()
        finally:
            with contextlib.suppress(OSError):  # it may be gone
                freeze.write_text("0")
            starter.join(DEADLINE)
            ender.join(DEADLINE)
    for program in (first, *started):
        assert program.wait(DEADLINE) < 0


def test_a_caller_whose_group_was_killed_before(owners):
    """From Linux 6.14 on, what is cloned from such a group into another dies at birth."""
    home = own_cgroup()
    assert home is not None
    if not (home / "cgroup.procs").exists():
        pytest.skip("no group of our own")
    made = home / f"killed-{os.getpid()}"
    made.mkdir()
    kill = made / "cgroup.kill"
    if kill.exists():
        kill.write_text("1")
    try:
        prefix = ["sh", "-c", 'echo 0 > "$0" && exec "$@"', str(made / "cgroup.procs")]
        body = """
        job = pyjob.Job(backend="cgroup")
        codes = [job.run([sys.executable, "-S", "-c", f"raise SystemExit({code})"]).returncode for code in (0, 7)]
        program = job.popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
        report(codes=codes, member=program.pid in job)
        job.kill()
        report(ended=program.wait(30))
        job.close()
        """
        owner = owners(body, end="return", backend="cgroup", prefix=prefix)
        assert owner.ready() == {"codes": [0, 7], "member": True, "ended": -9}
        owner.end()
        assert owner.wait() == 0, owner.output
        eventually(lambda: not list(made.glob("pyjob-*")), 2.0)
    finally:
        eventually(lambda: not members(made), 5.0)
        made.rmdir()


def test_members_may_have_groups_of_their_own(folder):
    """A member that nests groups itself, deeper than any job: listed, and gone with the leaf."""
    with pyjob.Job(backend="cgroup") as job:
        program = job.popen(IDLE)
        (root,) = roots_of(os.getpid())
        leaf = next(
            one for one in root.rglob("job-*") if (one / "cgroup.procs").read_text().split() == [str(program.pid)]
        )
        deep = leaf.joinpath(*["x"] * 20)
        deep.mkdir(parents=True)
        (deep / "cgroup.procs").write_text(str(program.pid))
        assert job.pids() == [program.pid]
        assert program.pid in job
        job.kill()
        assert program.wait(DEADLINE) == -signal.SIGKILL
        program.job.close()
        eventually(lambda: not leaf.exists())


def test_two_threads_enclose_and_kill(owners):
    body = """
    job = pyjob.Job(backend="cgroup")
    def encloses():
        for _ in range(50):
            job.assign_self()
    def kills():
        for _ in range(50):
            job.kill()
    threads = [threading.Thread(target=one) for one in (encloses, kills, encloses, kills)]
    for one in threads: one.start()
    for one in threads: one.join()
    report(pids=job.pids())
    job.close()
    report(after=True)
    """
    owner = owners(body, end="return", backend="cgroup")
    got = owner.ready()
    assert got["pids"] == [owner.pid] and got["after"]
    owner.end()
    assert owner.wait() == 0, owner.output


# ---- interpreters

ONE_AFTER_ANOTHER = """
from helpers import interpreters
for _ in range(3):
    number = interpreters.create(own_gil=False)
    failure = interpreters.run(number, argument)
    interpreters.destroy(number)
    assert failure is None, failure
"""


def all_roots_of(pid: int) -> list[Path]:
    """Of each interpreter."""
    home = own_cgroup()
    assert home is not None
    return list(home.glob(f"pyjob-*-{pid}-*"))


def test_an_interpreter_that_ends_leaves_nothing(owners):
    code = """
import pyjob
pyjob.run(["true"], backend="cgroup")
pyjob.Popen(["true"], backend="cgroup").wait()
with pyjob.Job(backend="cgroup") as job:
    job.popen(["sleep", "300"])
    pyjob.Popen(["sleep", "300"], job=job)
"""
    owner = owners(ONE_AFTER_ANOTHER, end="return", backend="cgroup", argument=code)
    owner.ready()
    assert all_roots_of(owner.pid) == []
    eventually(lambda: not guards_of(owner.pid))
    owner.end()
    assert owner.wait() == 0, owner.output


def test_what_an_interpreter_leaves_alive_goes_with_its_owner(owners):
    code = "import pyjob; pyjob.Popen(['sleep', '300'], backend='cgroup')"
    owner = owners(ONE_AFTER_ANOTHER, end="SIGKILL", backend="cgroup", argument=code)
    owner.ready()
    roots = all_roots_of(owner.pid)
    assert [len(members(one)) for one in roots] == [1, 1, 1]
    assert len(guards_of(owner.pid)) == 3
    owner.end()
    owner.wait()
    eventually(lambda: not any(one.exists() for one in roots))


def test_a_thousand_roots_and_one_more(owners):
    body = """
    import pathlib
    pyjob.run(["true"], backend="cgroup")
    (first,) = pathlib.Path(argument).glob(f"pyjob-*-{os.getpid()}-*")
    more = [first.with_name(f"{first.name}.{number}") for number in range(1, 1002)]
    for one in more:
        one.mkdir()
    from helpers import interpreters
    number = interpreters.create(own_gil=False)
    failure = interpreters.run(number, "import pyjob; pyjob.run(['true'], backend='cgroup')")
    interpreters.destroy(number)
    for one in more:
        one.rmdir()
    assert failure is None, failure
    """
    owner = owners(body, end="return", backend="cgroup", argument=str(own_cgroup()))
    owner.ready()
    owner.end()
    assert owner.wait() == 0, owner.output


# ---- names


def test_a_stale_name_is_free_again(owners):
    name = f"stale-{os.getpid()}-{time.monotonic_ns()}"
    owner = owners("job = pyjob.Job(argument, backend='cgroup')", end="SIGKILL", backend="cgroup", argument=name)
    owner.ready()
    with pytest.raises(FileExistsError):
        pyjob.Job(name, backend="cgroup")
    owner.end()
    owner.wait()
    with pytest.raises(FileNotFoundError):
        pyjob.Job.open(name)
    pyjob.Job(name, backend="cgroup").close()


def test_dead_names_go_also_where_many_live(owners, folder, monkeypatch):
    """Whichever place the directory gives them: only a few are looked at for each new name."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))

    def dead():
        return list(folder.glob("pyjob/job.dead-*"))

    def all_gone():
        for _ in range(20):
            pyjob.Job("another", backend="cgroup").close()
        return not dead()

    with contextlib.ExitStack() as living:
        for number in range(20):
            living.enter_context(pyjob.Job(f"before-{number}", backend="cgroup"))
        body = "jobs = [pyjob.Job(f'dead-{number}', backend='cgroup') for number in range(20)]"
        owner = owners(body, end="SIGKILL", backend="cgroup")
        owner.ready()
        for number in range(20):
            living.enter_context(pyjob.Job(f"after-{number}", backend="cgroup"))
        owner.end()
        owner.wait()
        assert len(dead()) == 20
        eventually(all_gone)
        assert len(list(folder.glob("pyjob/job.*"))) == 40


def test_the_registry_of_names_is_refused_where_others_may_write(owners, folder):
    body = """
    try:
        pyjob.Job("some-name", backend="cgroup")
    except PermissionError as error:
        report(refused=str(error))
    """
    for how in ("open", "link"):
        runtime = folder / how
        runtime.mkdir(mode=0o700)
        runtime.chmod(0o700)
        if how == "open":
            (runtime / "pyjob").mkdir()
            (runtime / "pyjob").chmod(0o777)
        else:
            (runtime / "elsewhere").mkdir(mode=0o700)
            (runtime / "pyjob").symlink_to("elsewhere")
        env = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
        if how == "link":
            owner = owners(body.replace("PermissionError", "OSError"), end="return", backend="cgroup", env=env)
        else:
            owner = owners(body, end="return", backend="cgroup", env=env)
        assert owner.ready().get("refused"), owner.output
        owner.end()
        owner.wait()


# ---- without privilege


DELEGATED = """
import os, sys, pyjob
me = os.getpid()
info = next(one for one in pyjob.backends() if one.name == "cgroup")
assert info.available, (info.why, info.help)
idle = ["sleep", "300"]
with pyjob.Job(backend="cgroup", name=f"delegated-{me}") as job:
    program = job.popen(idle)
    assert job.pids() == [program.pid] and program.pid in job
    with pyjob.Job.open(f"delegated-{me}") as other:
        other.kill()
    assert program.wait(30) == -9
    import subprocess
    stock = subprocess.Popen(idle)
    job.assign(stock)
    assert job.pids() == [stock.pid]
    job.assign_self()
    more = subprocess.Popen(idle)
    assert job.pids() == sorted([me, stock.pid, more.pid])
    job.kill()
    assert job.pids() == [me]
    stock.wait(30)
    more.wait(30)
print("fine")
"""


AS_ROOT = ["unshare", "--user", "--map-root-user"]


@pytest.fixture
def nobody():
    """The interpreter's command for nobody in particular, who may find its folder closed."""
    command = [*AS_NOBODY, sys.executable, "-c"]
    done = subprocess.run([*command, "import pyjob, subprocess"], capture_output=True, text=True, cwd="/")
    if done.returncode or not os.stat(os.path.realpath(sys.executable)).st_mode & stat.S_IXOTH:
        pytest.skip(f"others cannot run {sys.executable} with pyjob: {done.stderr}")
    return command


@pytest.mark.root
@pytest.mark.tool("setpriv", "unshare")
@pytest.mark.parametrize("as_root", [False, True], ids=["nobody", "root of a user namespace"])
def test_unprivileged_in_a_delegated_group(as_root, nobody):
    home = own_cgroup()
    assert home is not None
    names = Path("/tmp/pyjob-0")  # not /run/pyjob, which is somebody else's
    user = [*AS_NOBODY, *as_root * AS_ROOT, *nobody[len(AS_NOBODY) :]]
    if as_root and (names.exists() or subprocess.run([*user, "import pyjob"], capture_output=True, cwd="/").returncode):
        pytest.skip("nobody cannot run pyjob in a user namespace here, or /tmp is used as root's /run")
    made = home / f"delegated-{os.getpid()}"
    made.mkdir()
    try:
        for name in ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
            os.chown(made / name, 65534, 65534)
        command = ["sh", "-c", 'echo 0 > "$0" && exec "$@"', str(made / "cgroup.procs"), *user, DELEGATED]
        env = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, cwd="/")
        assert done.stdout == "fine\n", done.stderr
        eventually(lambda: not list(made.glob("pyjob-*")), 2.0)
    finally:
        if as_root and names.exists():
            names.rmdir()
        eventually(lambda: not members(made), 5.0)
        for path in sorted((one for one in made.rglob("*") if one.is_dir()), reverse=True):
            path.rmdir()
        made.rmdir()


@pytest.mark.root
@pytest.mark.tool("setpriv")
def test_unprivileged_in_roots_group_it_says_what_would_help(nobody):
    script = "import pyjob; cgroup, *_ = pyjob.backends(); print(cgroup.available, cgroup.why, cgroup.help, sep='|')"
    done = subprocess.run([*nobody, script], capture_output=True, text=True, timeout=60, cwd="/")
    available, why, cure = done.stdout.strip().split("|")
    home = own_cgroup()
    assert home is not None and available == "False" and str(home) in why and "systemd-run" in cure


GIVES_UP_ROOT = """
import os, signal, pyjob
pyjob.run(["true"])
other = pyjob.Popen(["sleep", "300"], user=65534, backend="cgroup")
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
other.kill()
print(other.wait() == -signal.SIGKILL, [pyjob.run(["true"]).returncode for _ in range(3)])
"""


@pytest.mark.root
@pytest.mark.tool("setpriv")
def test_an_owner_that_gives_up_root(nobody):
    """It may use its leaves no more, but signal who is its own; and what it starts from then on finds another way."""
    done = subprocess.run([sys.executable, "-c", GIVES_UP_ROOT], capture_output=True, text=True, timeout=60, cwd="/")
    assert done.stdout == "True [0, 0, 0]\n", done.stderr


def test_starts_from_many_threads_at_once():
    def run() -> None:
        for _ in range(25):
            with pyjob.Job(backend="cgroup") as job:
                done.append(job.run([sys.executable, "-S", "-c", "raise SystemExit(3)"]).returncode)

    done: list[int] = []
    threads = [threading.Thread(target=run) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert done == [3] * 200


@pytest.mark.root
@pytest.mark.tool("unshare")
def test_what_a_pid_namespace_left_is_swept(owners):
    """The guard of a container's PID 1 is killed with it, and nobody else can tell whether that PID 1 lives."""
    script = "import pyjob; job = pyjob.Job(backend='cgroup'); job.popen(['sleep', '300']); import os; os._exit(0)"
    subprocess.run(["unshare", "-pf", "--mount-proc", sys.executable, "-c", script], check=True, timeout=60)
    home = own_cgroup()
    assert home is not None
    own = os.stat("/proc/self/ns/pid").st_ino

    def strangers() -> list[str]:
        return [one.name for one in home.glob("pyjob-*") if not one.name.startswith(f"pyjob-{own}-")]

    eventually(lambda: not any(members(home / name) for name in strangers()))
    sweep = owners("job = pyjob.Job(backend='cgroup')", end="return", backend="cgroup")
    sweep.ready()
    assert strangers() == []
    sweep.end()
    sweep.wait()
