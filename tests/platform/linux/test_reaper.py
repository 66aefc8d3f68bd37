"""What only the backend `reaper` does: a guard for each program, of which nobody may notice anything."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyjob
from helpers.procs import DEADLINE, Identity, alive, eventually
from helpers.tracer import traced
from helpers.tree import chain
from helpers.under_test import Backend

SLEEP = ["sleep", "1000"]
SUBREAPER = "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"  # PR_SET_CHILD_SUBREAPER


@pytest.fixture(autouse=True)
def _needs_reaper() -> None:
    why = Backend.find("reaper")[1]
    if why:
        pytest.skip(why)


def popen(*args: Any, **options: Any) -> Any:
    return pyjob.Popen(*args, backend="reaper", **options)


def field(pid: int, number: int) -> str:
    """Of /proc/PID/stat, counted as in proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[number - 3]


def guard_of(pid: int) -> Identity:
    return Identity.of(int(field(pid, 4)))


def status(pid: int | str, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name + ":")), 16)


def python(code: str, prefix: list[str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """A Python of its own, so that what it does to itself does not concern the tests."""
    head = "import os, signal, subprocess, sys, time, pyjob\n"
    argv = [*(prefix or []), sys.executable, "-c", head + code]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=2 * DEADLINE, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


# ---- nobody's child

UNSEEN = """
def nothing_to_wait_for():
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
for _ in range(3):
    p = pyjob.Popen(["sh", "-c", "sleep 1000 & exit 5"], backend="reaper")
    assert p.wait() == 5
    assert nothing_to_wait_for() is None
    q = pyjob.Popen(["sleep", "1000"], backend="reaper")
    assert nothing_to_wait_for() is None
    own = subprocess.Popen(["sh", "-c", "exit 3"])
    assert os.waitpid(-1, 0) == (own.pid, 3 << 8)
    own.returncode = 3
    q.kill()
    assert q.wait() == -9
    p.job.kill()
    p.job.close()
    q.job.close()
    assert nothing_to_wait_for() is None
time.sleep(0.2)
assert nothing_to_wait_for() is None
"""


@pytest.mark.parametrize("owner", ["ordinary", "subreaper", "ignores SIGCHLD"])
def test_no_wait_sees_a_guard(owner: str) -> None:
    if owner == "ignores SIGCHLD":
        code = UNSEEN.replace("os.waitpid(-1, 0) == (own.pid, 3 << 8)", "True").replace(
            "own = ", "own = object.__new__(type('X', (), {})); "
        )
        python("signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n" + code)
    else:
        python((SUBREAPER if owner == "subreaper" else "") + UNSEEN)


@pytest.mark.root
def test_an_owner_that_is_init() -> None:
    """As the first process of a container. Orphans become its children: the guards must not."""
    code = "assert os.getpid() == 1\n" + UNSEEN.replace("sleep 1000 & exit 5", "exit 5")
    python(code, ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"])


def test_parked_processes_go_with_their_guards() -> None:
    code = """
    p = [pyjob.Popen(["sleep", "1000"], backend="reaper") for _ in range(5)]
    below = open(f"/proc/self/task/{os.getpid()}/children").read
    assert len(below().split()) == 5
    for one in p:
        one.kill(), one.wait(), one.job.close()
    end = time.monotonic() + 20
    while below():
        pyjob.run(["true"], backend="reaper")
        assert time.monotonic() < end, below()
    """
    python(SUBREAPER + "if True:" + code)


# ---- the program finds everything as the caller left it


def test_signals_as_the_caller_has_them() -> None:
    code = """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGRTMAX])
    look = ["sh", "-c", "grep -E '^Sig(Blk|Ign|Cgt)' /proc/$$/status; exit 7"]
    ours = pyjob.Popen(["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"], stdout=-1, backend="reaper")
    theirs = subprocess.Popen(["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"], stdout=-1)
    assert ours.communicate() == theirs.communicate()
    assert pyjob.Popen(["sh", "-c", "exit 7"], backend="reaper").wait() == 7
    """
    python("if True:" + code)


def test_standard_descriptors_that_are_closed() -> None:
    code = """
    os.closerange(0, 3)
    count = [sys.executable, "-c", "import os; os._exit(len(os.listdir('/proc/self/fd')))"]
    status = pyjob.Popen(count, backend="reaper").wait()
    stock = subprocess.Popen(count).wait()
    os._exit(0 if status == stock else 100 + status)
    """
    python("if True:" + code)


@pytest.mark.parametrize("close_fds", [True, False])
def test_descriptors_as_stock(close_fds: bool) -> None:
    """Only those that stock passes: none of the guard's."""
    kept, secret = os.memfd_create("kept", 0), os.memfd_create("secret")
    show = [
        sys.executable,
        "-S",
        "-c",
        "import os; print(sorted(f for f in range(256) if os.path.lexists(f'/proc/self/fd/{f}')))",
    ]
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    options.update({"pass_fds": [secret]} if close_fds else {"close_fds": False})
    try:
        with popen(show, **options) as ours, subprocess.Popen(show, **options) as stock:
            mine, theirs = ours.communicate()[0], stock.communicate()[0]
    finally:
        os.close(kept)
        os.close(secret)
    assert mine == theirs
    assert mine.startswith(b"[0, 1, 2")


def test_no_file_may_be_written() -> None:
    """RLIMIT_FSIZE concerns the program's files and not how it is described to the guard."""
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    python(
        code + "assert pyjob.Popen(['sh', '-c', 'ulimit -f'], stdout=-1, backend='reaper').communicate()[0] == b'0\\n'"
    )


def test_a_large_environment() -> None:
    env = {f"N{i}": "x" * 1000 for i in range(1500)}
    assert pyjob.run(["sh", "-c", "exit ${#N1499}"], env=env, backend="reaper").returncode == 1000 % 256
    with pytest.raises(OSError, match="Argument list too long"):
        popen(["true"], env={**env, "LARGE": "x" * 200_000})


def test_limits_of_the_calling_moment() -> None:
    code = """
    import resource
    def look():
        return pyjob.Popen(["sh", "-c", "ulimit -c; umask; pwd"], stdout=-1, backend="reaper").communicate()[0]
    first = look()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0)), os.umask(0o27), os.chdir("/")
    assert look() == b"0\\n0027\\n/\\n" != first
    """
    python("if True:" + code)


def test_few_descriptors_for_the_program_do_not_blind_the_guard(tree: Callable[..., Any]) -> None:
    """It must read /proc to end its tree."""
    family = tree(chain("top", "child"))
    argv = ["sh", "-c", 'ulimit -n 20; exec "$@"', "sh", *family.argv]
    code = f"""
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (12, 4096))
    p = pyjob.Popen({argv!r}, backend="reaper", env={{**os.environ}})
    print(p.pid, flush=True)
    sys.stdin.read()
    """
    head = "import os, sys, time, pyjob\nif True:"
    with subprocess.Popen([sys.executable, "-c", head + code], stdin=-1, stdout=-1) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline()
        family.ready()
        owner.kill()
    eventually(lambda: not any(alive(pid) for pid in family.pids()), 5)


# ---- the guard's own life


def test_the_status_is_there_though_a_daemon_lives() -> None:
    program = popen(["sh", "-c", "setsid sleep 1000 & exit 4"])
    guard = guard_of(program.pid)
    assert program.wait(DEADLINE) == 4
    (daemon,) = program.job.pids()
    assert guard.alive()
    program.job.kill()
    assert not alive(daemon)
    program.job.close()
    eventually(lambda: not guard.alive(), message="the guard stays")


def test_the_pid_is_kept_until_collected() -> None:
    program = popen(["true"])
    eventually(lambda: field(program.pid, 3) == "Z")
    time.sleep(0.1)
    guard = guard_of(program.pid)
    assert program.poll() == 0
    eventually(lambda: not guard.alive())


@pytest.mark.parametrize("ask", ["poll", "close"])
def test_a_late_guard_is_heard(ask: str) -> None:
    """The status of a dead program is known at once, as where the caller is its parent."""
    program = popen(["sh", "-c", "read line; exit 7"], stdin=subprocess.PIPE)
    guard = guard_of(program.pid)
    os.kill(guard.pid, signal.SIGSTOP)
    program.stdin.close()
    eventually(lambda: field(program.pid, 3) == "Z")
    goes_on = threading.Timer(0.3, os.kill, (guard.pid, signal.SIGCONT))
    goes_on.start()
    try:
        if ask == "close":
            program.job.close()
        assert program.poll() == 7
    finally:
        goes_on.join()


def test_a_late_guard_of_a_dropped_popen_leaves_with_the_next_start() -> None:
    """As the zombie of stock's would: subprocess._active keeps it until then."""
    with pyjob.Job(backend="reaper") as job:
        program = job.popen(SLEEP)
        guard = guard_of(program.pid)
        os.kill(guard.pid, signal.SIGSTOP)
    del program  # killed, but not collected: the guard cannot tell yet
    os.kill(guard.pid, signal.SIGCONT)
    time.sleep(0.1)
    assert guard.alive()
    popen(["true"]).wait(DEADLINE)
    eventually(lambda: not guard.alive())


def test_orphans_are_reaped_while_the_programs_zombie_is_kept() -> None:
    program = popen(["sh", "-c", "for i in 1 2 3; do (sleep 0.$i &) ; done"])
    guard = guard_of(program.pid)
    eventually(lambda: field(program.pid, 3) == "Z")
    children = Path(f"/proc/{guard.pid}/task/{guard.pid}/children")
    eventually(lambda: children.read_text().split() == [str(program.pid)], message="zombies pile up")
    assert program.wait(DEADLINE) == 0


def test_a_killed_guard_takes_the_program_along() -> None:
    with pyjob.Job(backend="reaper") as job:
        program, other = job.popen(SLEEP), job.popen(SLEEP)
        was = Identity.of(program.pid)
        os.kill(guard_of(program.pid).pid, signal.SIGKILL)
        eventually(lambda: not was.alive(), message="nobody ends it")
        program.wait(DEADLINE)  # nobody knows how it ended
        assert other.poll() is None
        assert job.pids() == [other.pid]
        job.kill()
        assert other.wait(DEADLINE) == -signal.SIGKILL


def test_a_killed_guard_takes_guarantees_along() -> None:
    """What its program had started is orphaned, and not to be found any more."""
    child = "import subprocess as s, time; print(s.Popen(['sleep', '300']).pid, flush=True); time.sleep(300)"
    with pyjob.Job(backend="reaper") as job:
        assert job.popen(["true"]).wait(DEADLINE) == 0
        assert job.guarantees.dies_with_owner and job.guarantees.escape_proof
        program = job.popen([sys.executable, "-S", "-c", child], stdout=subprocess.PIPE)
        orphan = Identity.of(int(program.stdout.readline()))
        try:
            Identity.of(guard_of(program.pid).pid).end()
            program.wait(DEADLINE)
            for _ in range(2):
                assert not job.guarantees.dies_with_owner and not job.guarantees.escape_proof
                assert job.guarantees.inherited
                assert job.popen(["true"]).wait(DEADLINE) == 0  # a new guard, which does not bring him back
                program.job.close()
        finally:
            orphan.end()
            program.stdout.close()


def test_two_hundred_at_once() -> None:
    with pyjob.Job(backend="reaper") as job:
        programs = [job.popen(SLEEP) for _ in range(200)]
        assert job.pids() == sorted(program.pid for program in programs)
        job.kill(DEADLINE)
        assert {program.wait(DEADLINE) for program in programs} == {-signal.SIGKILL}
        assert job.pids() == []


def test_a_fork_storm() -> None:
    """Each forks a successor, in a session of its own, and exits, without a pause."""
    storm = """
import os
for _ in range(16):
    if os.fork() == 0:
        while True:
            if os.fork():
                os._exit(0)
            os.setsid()
"""
    with pyjob.Job(backend="reaper") as job:
        program = job.popen([sys.executable, "-S", "-c", storm])
        program.wait(DEADLINE)
        time.sleep(0.2)
        assert job.pids()
        job.kill(DEADLINE)
        assert job.pids() == []
        assert job.wait(5) is None


def test_killpg_of_the_owners_group_ends_its_daemons_too(owners: Callable[..., Any], tree: Callable[..., Any]) -> None:
    """The usual way to end a program with its tree kills the owner, but not the guard: it has left the group."""
    family = tree(chain("top", "child"))
    body = 'os.setpgid(0, 0)\nprogram = pyjob.Popen(["setsid", *argument], backend=backend)'
    owner = owners(body, end="SIGKILL", backend="reaper", argument=family.argv)
    owner.ready()
    family.ready()
    os.killpg(owner.pid, signal.SIGKILL)
    owner.wait()
    family.assert_dead()


# ---- job control


def test_a_group_of_its_own_can_be_stopped() -> None:
    """The group is not orphaned: its parent, the guard, is in the same session (setpgid(2))."""
    with (
        popen(SLEEP, process_group=0) if sys.version_info >= (3, 11) else popen(SLEEP, preexec_fn=os.setpgrp) as program
    ):
        assert os.getpgid(program.pid) == program.pid
        if sys.version_info >= (3, 11):
            os.killpg(program.pid, signal.SIGTSTP)
            eventually(lambda: field(program.pid, 3) == "T")
            os.killpg(program.pid, signal.SIGCONT)
            eventually(lambda: field(program.pid, 3) == "S")
        os.killpg(program.pid, signal.SIGKILL)
        assert program.wait(DEADLINE) == -signal.SIGKILL


def test_a_group_that_the_program_makes_can_be_stopped() -> None:
    """As without a guard: where the caller's group is not orphaned, the program's is not either."""
    code = """
    os.setpgid(0, 0)  # our parent, in another group of the session, saves ours from being orphaned
    own_group = "import os, time; os.setpgid(0, 0); print(flush=True); time.sleep(300)"
    program = pyjob.Popen([sys.executable, "-S", "-c", own_group], backend="reaper", stdout=subprocess.PIPE)
    program.stdout.readline()
    os.kill(program.pid, signal.SIGTSTP)
    end = time.monotonic() + 20
    while open(f"/proc/{program.pid}/stat").read().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < end
        time.sleep(0.01)
    program.kill()
    program.wait()
    """
    python("if True:" + code)


@pytest.mark.parametrize("module", ["subprocess", "pyjob"])
def test_the_suspend_key_where_nobody_could_resume(module: str) -> None:
    """The owner leads the session of a terminal, as with `docker run -t` or `ssh -t`: ^Z stops nobody, guard or not."""
    options = ', backend="reaper"' if module == "pyjob" else ""
    code = f"import {module} as m; p = m.Popen(['sleep', '1000']{options}); print('pid', p.pid, flush=True); p.wait()"
    owner, terminal = pty.fork()
    if owner == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    try:
        text = b""
        while b"\n" not in text:
            text += os.read(terminal, 1000)
        program = Identity.of(int(text.split()[1]))
        os.write(terminal, b"\x1a")
        time.sleep(0.2)
        assert not {field(pid, 3) for pid in (owner, program.pid)} & {"T", "t"}
        os.write(terminal, b"\x03")
        eventually(lambda: not program.alive(), message="^C does not reach the program")
    finally:
        os.kill(owner, signal.SIGKILL)
        os.waitpid(owner, 0)
        os.close(terminal)


# ---- assign_self


def test_what_the_caller_starts_is_in_the_job() -> None:
    code = """
    before = subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    job = pyjob.Job(backend="reaper")
    job.assign_self()
    own = subprocess.Popen(["sh", "-c", "sleep 1000 & setsid sleep 1000 & sleep 1000"])
    inner = pyjob.Popen(["sleep", "1000"], backend="reaper")
    while len(job.pids()) < 6:
        time.sleep(0.01)
    pids = job.pids()
    assert os.getpid() in pids and own.pid in pids and inner.pid in pids and before.pid not in pids, pids
    assert len(pids) == 6, (pids, [open(f"/proc/{p}/comm").read() for p in pids])
    assert not job.guarantees.dies_with_owner and not job.guarantees.atomic_kill
    quick = subprocess.Popen(["sh", "-c", "exit 9"])
    time.sleep(0.2)
    job.pids(), job.pids()
    assert quick.wait() == 9
    job.kill()
    assert job.pids() == [os.getpid()] and before.poll() is None
    assert own.wait() == -9 and inner.wait() == -9
    job.close()
    children = open(f"/proc/self/task/{os.getpid()}/children").read
    end = time.monotonic() + 20
    while children().split() != [str(before.pid)]:  # whoever was seen under another parent is reaped, parked ones too
        assert time.monotonic() < end, children()
        pyjob.run(["true"], backend="reaper")
    before.kill()
    """
    python("if True:" + code)


# ---- what a machine may refuse


def behind_hidepid(probe: str) -> None:
    """Runs `probe` as an ordinary user to whom /proc shows only what he may trace."""
    caps = "-all,+dac_override,+dac_read_search"  # the installation may lie where only root looks
    drop = f"--reuid=65534 --regid=65534 --clear-groups --inh-caps={caps} --ambient-caps={caps} --bounding-set={caps}"
    inner = f'mount -t proc -o hidepid=2 proc /proc && exec setpriv {drop} "$@"'
    python("if True:" + probe, ["unshare", "--mount", "sh", "-c", inner, "sh"], cwd="/")


@pytest.mark.root
def test_hidepid() -> None:
    """A list under hidepid may lack somebody: that is denied, and the rest goes on."""
    probe = """
    info = {one.name: one for one in pyjob.backends()}["reaper"]
    assert info.available and "complete_list" not in info.guarantees, info
    with pyjob.Job(backend="reaper") as job:
        program = job.popen(["sh", "-c", "setsid sleep 1000 & sleep 1000"])
        while len(job.pids()) < 3:
            time.sleep(0.01)
        job.kill()
        assert program.wait() == -9 and job.pids() == []
    """
    behind_hidepid(probe)


UNDUMPABLE = """
import ctypes, os, sys, time
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE, as ssh-agent and gpg-agent do
if sys.argv[1] == "daemon" and (os.fork() or os.setsid() or os.fork()):
    os._exit(0)
print(os.getpid(), flush=True)
os.close(1)
time.sleep(300)
"""


@pytest.mark.root
@pytest.mark.parametrize("how", ["plain", "daemon"])
def test_hidepid_hides_a_member_that_is_not_dumpable(how: str) -> None:
    probe = f"""
    member = [sys.executable, "-S", "-c", {UNDUMPABLE!r}, {how!r}]
    def start():
        program = pyjob.Popen(member, backend="reaper", stdout=subprocess.PIPE)
        return program, int(program.stdout.readline())
    def await_death(pid):
        end = time.monotonic() + 20
        try:
            while time.monotonic() < end:
                os.kill(pid, 0)
                time.sleep(0.01)
        except ProcessLookupError:
            return
        raise AssertionError("it lives")
    program, pid = start()
    program.kill()
    assert program.wait() == (0 if pid != program.pid else -9)
    await_death(pid)
    read, write = os.pipe()
    owner = os.fork()
    if owner == 0:
        program, pid = start()
        os.write(write, str(pid).encode())
        time.sleep(300)
    pid = int(os.read(read, 20))
    os.kill(owner, signal.SIGKILL)
    os.waitpid(owner, 0)
    await_death(pid)
    """
    behind_hidepid(probe)


@pytest.mark.root
@pytest.mark.tool("strace")
def test_an_orphan_that_comes_while_the_guard_counts() -> None:
    """The orphan's parent dies after the guard has read the list of its children, and before it reaps that parent."""
    script = "read line; sh -c 'setsid sleep 300 >&2 & echo $!; exec sleep 0.3 >&2' &"
    program = popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    guard = guard_of(program.pid)
    slow = ["strace", "-o", os.devnull, "-e", "trace=waitid", "-e", "inject=waitid:delay_enter=200000"]
    strace = subprocess.Popen([*slow, "-p", str(guard.pid)], stderr=subprocess.PIPE)
    try:
        assert strace.stderr and b"attached" in strace.stderr.readline()
        program.stdin.write(b"\n")
        program.stdin.close()
        orphan = Identity.of(int(program.stdout.readline()))
        counted = time.monotonic() + 1.5  # by then the guard has counted, however slowly
        while time.monotonic() < counted:
            time.sleep(0.1)
        assert orphan.pid in program.job.pids()
        assert orphan.pid in pyjob.children(guard.pid)
    finally:
        strace.send_signal(signal.SIGINT)
        strace.communicate()
        program.kill()
        program.stdout.close()
    assert not orphan.alive()
    assert program.wait() == 0
    program.job.close()


def test_what_an_interrupted_start_has_begun_is_ended() -> None:
    """With preexec_fn a start has several steps, in Python: wherever a signal handler raises, nobody stays."""
    probe = """
    class Interrupted(BaseException):
        pass
    def interrupt(*_):
        raise Interrupted
    def programs():
        found = subprocess.run(["ps", "-o", "pid=", "-C", "sleep", "-o", "args="], capture_output=True, text=True)
        return [one for one in found.stdout.splitlines() if one.endswith(" 1000." + str(os.getpid()))]
    signal.signal(signal.SIGALRM, interrupt)
    pyjob.Popen(["true"], backend="reaper", preexec_fn=lambda: None).wait()
    interrupted = 0
    for step in range(30):
        with pyjob.Job(backend="reaper") as job:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.002 + step * 0.0004)
                job.popen(["sleep", "1000." + str(os.getpid())], preexec_fn=lambda: None)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                interrupted += 1
    end = time.monotonic() + 20
    while programs() and time.monotonic() < end:
        time.sleep(0.05)
    assert programs() == []
    assert interrupted > 3, interrupted
    """
    python("if True:" + probe)


TRACED = {
    "job": """
job = pyjob.Job(backend="reaper")
process = job.popen([*tracer, str(os.getpid())])
traced(process, os.getpid())
job.kill()
print(job.pids(), process.wait())
""",
    "popen": """
process = pyjob.Popen([*tracer, str(os.getpid())], backend="reaper")
traced(process, os.getpid())
process.kill()
print(process.job.pids(), process.wait())
""",
    "guard": """
process = pyjob.Popen([*tracer, "0"], backend="reaper")
traced(process, int(open(f"/proc/{process.pid}/stat").read().rpartition(")")[2].split()[1]))
print([], -9, flush=True)
os._exit(0)
""",
}


@pytest.mark.parametrize("which", TRACED)
def test_a_member_that_traces_who_would_stop_it(which: str) -> None:
    """Stopped, it would stop the owner (or the guard) for ever: it is killed at once."""
    told, tracer = traced(TRACED[which])
    assert told == "[] -9"
    eventually(lambda: not tracer.alive())


def test_a_missing_guard(tmp_path: Path) -> None:
    code = f"""
    from pyjob import _native
    job = None
    try:
        job = _native.Job.create("reaper", None, None, False, {str(tmp_path / "pyjob-guard")!r})
    except FileNotFoundError as error:
        pass
    else:
        raise AssertionError("made without a guard")
    available, bits, why, helps = _native.probe("reaper", {str(tmp_path / "pyjob-guard")!r})
    assert not available and {str(tmp_path)!r} in why and helps
    """
    python("if True:" + code)
