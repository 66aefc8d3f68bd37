"""kill_tree(): all that is connected when reached, nobody else; caller and ancestors live; self-kill completes."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest

import pyjob
from helpers.procs import DEADLINE, Identity, eventually, processes, start_time
from helpers.tracer import traced
from helpers.tree import chain, node

LINUX = sys.platform.startswith("linux")
POSIX = os.name == "posix"

CROWD = node("top", chain("a", "b", "c"), node("deaf", ignore=True), node("session", how="setsid" if POSIX else "exec"))


def living(folder):
    """Who lives and has this folder in its arguments (Linux; elsewhere nobody)."""
    everybody = processes() if LINUX else ()
    return [one for one in everybody if str(folder) in " ".join(one.argv()) and one.state not in "ZX"]


def end_living(folder):
    for one in living(folder):
        Identity.of(one.pid).end()


def stopped(pids):
    return [one.pid for one in processes() if one.pid in pids and one.state in "Tt"]


@pytest.fixture
def crowd(tree):
    family = tree(CROWD)
    process = subprocess.Popen(family.argv)
    family.ready()
    yield family
    family.end()
    process.wait(DEADLINE)


# ---- who dies


def test_the_whole_tree(crowd, bystander):
    assert pyjob.kill_tree(crowd.pid("top")) == crowd.pids()
    crowd.assert_dead(deadline=1)
    bystander.assert_alive()


def test_without_the_root(crowd):
    assert pyjob.kill_tree(crowd.pid("top"), include_root=False) == crowd.pids(["a", "b", "c", "deaf", "session"])
    crowd.assert_dead(["a", "b", "c", "deaf", "session"], deadline=1)
    crowd.assert_alive(["top"])
    assert pyjob.kill_tree(crowd.pid("top"), include_root=False) == []
    crowd.assert_alive(["top"])


def test_a_branch(crowd):
    assert pyjob.kill_tree(crowd.pid("a")) == crowd.pids(["a", "b", "c"])
    crowd.assert_dead(["a", "b", "c"], deadline=1)
    crowd.assert_alive(["top", "deaf", "session"])


def test_of_a_popen_and_of_a_handle(crowd):
    with pyjob.ProcessHandle(crowd.pid("a")) as handle:
        assert pyjob.kill_tree(handle) == crowd.pids(["a", "b", "c"])
        assert pyjob.kill_tree(handle) == []  # it has ended, and so has its tree
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    assert pyjob.kill_tree(process) == [process.pid]
    assert process.wait(DEADLINE) == (-signal.SIGKILL if POSIX else 9)
    with pytest.raises(ProcessLookupError if POSIX else OSError):
        pyjob.kill_tree(process)


@pytest.mark.skipif(not POSIX, reason="stopped processes")
def test_the_stopped_too(crowd):
    for name in ("top", "b"):
        os.kill(crowd.pid(name), signal.SIGSTOP)
    assert pyjob.kill_tree(crowd.pid("top")) == crowd.pids()
    crowd.assert_dead(deadline=1)


def test_an_orphan_is_not_connected(tree):
    family = tree(node("top", node("middle", node("orphan"), exit=0)))
    process = subprocess.Popen(family.argv)
    family.ready()
    if POSIX:
        eventually(lambda: pyjob.children(process.pid) == [])
    assert pyjob.kill_tree(process.pid) == [process.pid]
    family.assert_alive(["orphan"])
    family.end()
    process.wait(DEADLINE)


@pytest.mark.skipif(not POSIX, reason="fork")
def test_wide_and_deep(folder):
    """A comb: 20 chains of 20, some of them sessions; with all of it dead at the return, by the kernel's word."""
    script = f"""
import os, time
for tooth in range(20):
    if os.fork() == 0:
        depth = 0
        while depth < 19 and os.fork() == 0:
            depth += 1
            if depth % 7 == 0:
                os.setsid()
        if depth == 19:
            open(os.path.join({str(folder)!r}, f"tooth{{tooth}}"), "w")
        break
time.sleep(100)
"""
    process = subprocess.Popen([sys.executable, "-S", "-c", script])
    eventually(lambda: len(list(folder.glob("tooth*"))) == 20)
    members = [Identity.of(pid) for pid in pyjob.children(process.pid, recursive=True)]
    assert len(members) == 400
    killed = pyjob.kill_tree(process.pid, timeout=60)
    assert not [one for one in members if one.alive()]
    assert killed == sorted([process.pid, *(one.pid for one in members)])
    process.wait(DEADLINE)


@pytest.mark.skipif(not POSIX, reason="fork")
def test_a_tree_that_grows(folder):
    """Each of 16 forks on without pause, and what it forks stays: all of it dies, within the deadline."""
    script = f"""
import os, signal, time
signal.signal(signal.SIGALRM, signal.SIG_DFL)
signal.alarm(60)
for _ in range(16):
    if os.fork() == 0:
        signal.alarm(60)
        open({str(folder / "growing")!r}, "w").close()
        for _ in range(200):
            if os.fork() == 0:
                signal.alarm(60)
                os.setsid()
                break
            time.sleep(0.002)
        else:
            time.sleep(60)
        time.sleep(60)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-S", "-c", script])
    eventually((folder / "growing").exists)
    time.sleep(0.05)
    begun = time.monotonic()
    killed = pyjob.kill_tree(process.pid, timeout=30)
    assert time.monotonic() - begun < 30
    assert process.pid in killed
    assert len(killed) > 16
    process.wait(DEADLINE)
    assert living(folder) == []


@pytest.mark.skipif(not LINUX, reason="/proc")
def test_a_tree_that_somebody_wakes(folder):
    """It forks on, for a stranger undoes each stop: what nobody can find then is not said to be dead."""
    script = f"""
import os, signal, time
signal.alarm(60)
for _ in range(300):
    if os.fork() == 0:
        signal.alarm(60)
        time.sleep(60)
        break
    open({str(folder / "growing")!r}, "w").close()
    time.sleep(0.002)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-S", "-c", script])
    eventually((folder / "growing").exists)
    script = f"import os, signal\nsignal.alarm(30)\nwhile True: os.kill({process.pid}, signal.SIGCONT)"
    waker = subprocess.Popen([sys.executable, "-S", "-c", script])
    told = True
    try:
        pyjob.kill_tree(process.pid, timeout=5)
        told = False
    except pyjob.SurvivorsError as error:
        assert process.pid in error.killed + error.pids
    finally:
        waker.kill()
        waker.wait(DEADLINE)
        process.wait(DEADLINE)
        left = living(folder)
        end_living(folder)
    assert told or not left


@pytest.mark.skipif(not LINUX, reason="/proc")
def test_a_tree_that_somebody_wakes_in_its_kill(folder):
    """The first death wakes the root, which forks at once, again and again: it is stopped once more, and all die."""
    script = f"""
import os, signal, time
signal.alarm(60)
def child():
    signal.alarm(60)
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    time.sleep(60)
def fork(*_):
    if os.fork() == 0:
        child()
        os._exit(0)
signal.signal(signal.SIGCONT, fork)
for _ in range(100):
    last = os.fork()
    if last == 0:
        child()
        os._exit(0)
with open({str(folder / "last.new")!r}, "w") as file:
    file.write(str(last))
os.rename({str(folder / "last.new")!r}, {str(folder / "last")!r})
while True:
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-S", "-c", script])
    eventually((folder / "last").exists)
    script = f"""
import os, signal
signal.alarm(60)
open({str(folder / "waking")!r}, "w").close()
try:
    while open("/proc/{(folder / "last").read_text()}/stat").read().rsplit(")", 1)[1].split()[0] != "Z":
        pass
except OSError:
    pass  # all of them are dead, and the first that reaps is there
for _ in range(3):
    os.kill({process.pid}, signal.SIGCONT)  # ours, and not waited for
"""
    waker = subprocess.Popen([sys.executable, "-S", "-c", script])
    try:
        eventually((folder / "waking").exists)
        killed = pyjob.kill_tree(process.pid, timeout=DEADLINE)
        assert len(killed) > 100
        assert waker.wait(DEADLINE) == 0
        assert living(folder) == []
    finally:
        waker.kill()
        waker.wait(DEADLINE)
        process.kill()
        process.wait(DEADLINE)
        end_living(folder)


@pytest.mark.skipif(not LINUX, reason="a subreaper keeps the storm connected")
def test_a_fork_storm(folder):
    """16 processes that fork, change the session and exit without pause, below a subreaper: nobody of them is left."""
    script = f"""
import ctypes, os, signal, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
end = time.monotonic() + 60
for _ in range(16):
    if os.fork() == 0:
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
            os.setsid()
        os._exit(0)
open({str(folder / "storm")!r}, "w").close()
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-S", "-c", script])
    eventually((folder / "storm").exists)
    time.sleep(0.1)
    try:
        pyjob.kill_tree(process.pid, include_root=False, timeout=30)
        time.sleep(0.05)
        assert pyjob.children(process.pid, recursive=True) == []
        assert process.poll() is None
        assert len(living(folder)) == 1
    finally:
        process.kill()
        process.wait(DEADLINE)


# ---- who lives


@pytest.mark.skipif(not POSIX, reason="POSIX signals")
def test_nobody_else_is_stopped(crowd, bystander):
    pyjob.kill_tree(crowd.pid("a"))
    if LINUX:
        assert not stopped([bystander.pid, *crowd.pids(["top", "deaf", "session"])])
    bystander.assert_alive()


GRANDPARENT = """
import os, subprocess, sys, time
sys.path[:0] = {path!r}
level = int(sys.argv[1])
folder = {folder!r}
sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(100)", folder]
if level < 2:
    other = subprocess.Popen(sleeper)
    own = subprocess.Popen([sys.executable, __file__, str(level + 1)])
    code = own.wait()
    open(folder + f"/level{{level}}", "w").write(str(code))
    sys.exit(code)
import pyjob
below = subprocess.Popen(sleeper)
top = pyjob.ProcessHandle(int(open(folder + "/top").read()))
killed = pyjob.kill_tree(top, include_root={include})
open(folder + "/killed.new", "w").write(" ".join(map(str, killed)))
os.rename(folder + "/killed.new", folder + "/killed")
sys.exit(42)
"""


@pytest.mark.parametrize("include", [True, False])
def test_the_caller_and_its_ancestors_are_spared(folder, include):
    """top - middle - caller: the caller ends top's tree. Its own child dies, and the siblings; middle lives on, and so
    does top if it was not asked for."""
    (folder / "script.py").write_text(GRANDPARENT.format(path=sys.path, folder=str(folder), include=include))
    gate = """
import os, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
sys.argv[:2] = []
__file__ = sys.argv[0]
exec(open(__file__).read())
"""
    argv = [sys.executable, "-c", gate, str(folder / "top"), str(folder / "script.py"), "0"]
    top = subprocess.Popen(argv)
    (folder / "top.new").write_text(str(top.pid))
    (folder / "top.new").rename(folder / "top")
    eventually((folder / "killed").exists)
    killed = [int(pid) for pid in (folder / "killed").read_text().split()]
    eventually((folder / "level1").exists)
    eventually(lambda: (folder / "level1").read_text() == "42")  # the middle one lived to see it
    assert (top.pid in killed) == include
    assert len(killed) == 3 + include
    assert top.wait(DEADLINE) == (42 if not include else -signal.SIGKILL if POSIX else 9)
    assert (folder / "level0").exists() == (not include)
    eventually(lambda: not living(folder))


def test_self_kill_completes(folder, tree, owners):
    """The root is the caller: first all others, then itself."""
    family = tree(chain("top", "child", "grandchild"))
    body = """
    child = subprocess.Popen(argument)
    from pathlib import Path
    while not Path(argument[-2], "top.json").exists():
        time.sleep(0.01)
    report(begun=True)
    pyjob.kill_tree(os.getpid())
    report(survived=True)
    """
    owner = owners(body, end="return", argument=family.argv)
    assert owner.wait() == (-signal.SIGKILL if POSIX else owner.process.returncode)
    family.ready()
    family.assert_dead(deadline=1)
    assert owner.reported == {"begun": True}


def test_self_without_the_root(tree, owners):
    family = tree(chain("top", "child"))
    body = """
    child = subprocess.Popen(argument)
    from pathlib import Path
    while not Path(argument[-2], "top.json").exists():
        time.sleep(0.01)
    report(killed=pyjob.kill_tree(os.getpid(), include_root=False), left=pyjob.children())
    child.wait()
    """
    owner = owners(body, end="return", argument=family.argv)
    reported = owner.ready()
    family.ready()
    assert reported == {"killed": family.pids(), "left": []}
    family.assert_dead(deadline=1)
    owner.end()
    assert owner.wait() == 0


@pytest.mark.skipif(not POSIX, reason="init")
def test_init_is_refused(bystander):
    for include in (True, False):
        with pytest.raises(PermissionError):
            pyjob.kill_tree(1, include_root=include)
    bystander.assert_alive()


def test_nobody():
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait(DEADLINE)
    pid = process.pid
    del process  # on Windows its handle keeps the PID
    eventually(lambda: start_time(pid) is None)
    with pytest.raises(ProcessLookupError):
        pyjob.kill_tree(pid)


@pytest.mark.skipif(not POSIX, reason="zombies")
def test_a_zombie():
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    with pyjob.ProcessHandle(process.pid) as handle:
        handle.wait(DEADLINE)
        assert pyjob.kill_tree(handle) == []
        assert pyjob.kill_tree(process.pid) == []
    assert process.wait(DEADLINE) == 0


# ---- time, threads, means


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_passed_deadline_is_one_attempt(crowd, timeout):
    told = set()
    try:
        told.update(pyjob.kill_tree(crowd.pid("top"), timeout=timeout))
    except pyjob.SurvivorsError as error:
        told.update(error.pids, error.killed)  # told to die, not dead yet
    assert told
    assert told <= set(crowd.pids())
    crowd.assert_dead(deadline=5)


def test_two_at_once(crowd):
    """Two threads after the same tree: both return, all are dead, each was ended by one of them or by both."""
    found = []
    threads = [threading.Thread(target=lambda: found.append(pyjob.kill_tree(crowd_handle))) for _ in range(2)]
    wanted = crowd.pids()
    with pyjob.ProcessHandle(crowd.pid("top")) as crowd_handle:
        for one in threads:
            one.start()
        for one in threads:
            one.join(DEADLINE)
    assert len(found) == 2
    assert sorted(set(found[0]) | set(found[1])) == wanted
    crowd.assert_dead(deadline=1)


@pytest.mark.skipif(not LINUX, reason="descriptors")
@pytest.mark.parametrize("free", [6, 12])
def test_more_members_than_descriptors(folder, free):
    import resource

    script = f"""
import os, time
for _ in range(59):
    if os.fork() == 0:
        break
else:
    open({str(folder / "crowd")!r}, "w").close()
time.sleep(100)
"""
    process = subprocess.Popen([sys.executable, "-S", "-c", script])
    eventually((folder / "crowd").exists)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pyjob.ProcessHandle(process.pid) as handle:
        lowest = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + free, limits[1]))
        try:
            killed = pyjob.kill_tree(handle, timeout=30)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(killed) == 60
    process.wait(DEADLINE)


@pytest.mark.skipif(not LINUX, reason="descriptors")
def test_an_error_stops_nobody(crowd):
    """Out of descriptors half-way: an error, nobody dead and nobody left stopped."""
    import errno
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    members = crowd.pids()
    with pyjob.ProcessHandle(crowd.pid("top")) as handle:
        lowest = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest)
        for free in (0, 1, 2):
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + free, limits[1]))
            try:
                with pytest.raises(OSError, match=r"/proc|pidfd_open") as caught:
                    pyjob.kill_tree(handle)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert caught.value.errno == errno.EMFILE
            crowd.assert_alive()
            eventually(lambda: not stopped(members), 5)
        assert pyjob.kill_tree(handle) == crowd.pids()


@pytest.fixture
def mixed(folder):
    """A tree of another user's, with a child that takes a while to die and one that only a third user may end."""
    os.chmod(folder, 0o777)
    script = f"""
import os, sys, time
other = os.fork()
if other == 0:
    os.setresuid(65533, 65533, 65533)
    open({str(folder / "other")!r}, "w").write(str(os.getpid()))
    time.sleep(100)
mine = os.fork()
if mine == 0:
    large = bytearray(100 << 20)
os.setresuid(65534, 65534, 65534)
if mine == 0:
    open({str(folder / "mine")!r}, "w").write(str(os.getpid()))
time.sleep(100)
"""
    top = subprocess.Popen([sys.executable, "-S", "-c", script])
    names = ("other", "mine")
    eventually(lambda: all((folder / one).exists() and (folder / one).read_text() for one in names))
    eventually(lambda: os.stat(f"/proc/{top.pid}").st_uid == 65534)
    members = {one: Identity.of(int((folder / one).read_text())) for one in names} | {"top": Identity.of(top.pid)}
    yield members
    for one in members.values():
        one.end()
    top.wait(DEADLINE)


NOISE = """
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
"""


@pytest.mark.root
@pytest.mark.tool("setpriv")
@pytest.mark.skipif(not LINUX, reason="setpriv")
@pytest.mark.parametrize("noise", ["", NOISE], ids=["quiet", "signals"])
def test_survivors_are_named(mixed, noise, as_nobody):
    """A child that became another user's cannot be ended by a caller without rights; the rest can. It is named also
    when its parent is long dead, and signals came in between."""
    body = f"""{noise}
try:
    pyjob.kill_tree({mixed["top"].pid}, timeout=0.5)
except pyjob.SurvivorsError as error:
    print(error.pids, error.killed)
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    killed = sorted(mixed[one].pid for one in ("top", "mine"))
    assert as_nobody(body) == f"{[mixed['other'].pid]} {killed}"
    assert mixed["other"].alive()
    assert not mixed["top"].alive()
    assert not mixed["mine"].alive()


def test_the_error_carries_both_lists():
    error = pickle.loads(pickle.dumps(pyjob.SurvivorsError([3, 2], killed=[5, 4, 3])))
    assert (error.pids, error.killed) == ([2, 3], [4, 5])
    assert "2, 3" in str(error)
    assert pyjob.SurvivorsError([2]).killed == []


@pytest.mark.root
@pytest.mark.tool("setpriv")
@pytest.mark.skipif(not LINUX, reason="setpriv")
def test_ctrl_c_ends_the_wait_for_survivors(mixed, as_nobody):
    body = f"""
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.3)
begun = time.monotonic()
try:
    pyjob.kill_tree({mixed["top"].pid}, timeout=20)
except KeyboardInterrupt:
    print(time.monotonic() - begun)
"""
    assert float(as_nobody(body)) < 5
    assert mixed["other"].alive()
    assert not mixed["mine"].alive()


@pytest.mark.root
@pytest.mark.tool("setpriv")
@pytest.mark.skipif(not LINUX, reason="setpriv")
def test_whom_we_may_not_end_at_all(mixed, as_nobody):
    """No survivor of a kill, but a refusal, and at once."""
    body = f"""
begun = time.monotonic()
try:
    pyjob.kill_tree({mixed["other"].pid}, timeout=20)
except PermissionError as error:
    print(time.monotonic() - begun)
"""
    assert float(as_nobody(body)) < 5
    assert mixed["other"].alive()


@pytest.mark.root
@pytest.mark.tool("setpriv")
@pytest.mark.skipif(not LINUX, reason="setpriv")
def test_a_handler_may_close_the_handle(mixed, as_nobody):
    body = f"""
handle = pyjob.ProcessHandle({mixed["top"].pid})
signal.signal(signal.SIGALRM, lambda *_: handle.close())
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    pyjob.kill_tree(handle, timeout=20)
except ValueError as error:
    print(error)
"""
    assert as_nobody(body) == "operation on a closed process handle"


@pytest.mark.skipif(not LINUX, reason="descriptors")
def test_a_handler_and_few_descriptors():
    """The death of each child interrupts us. What we hold is kept, and so is the limit of what we may hold."""
    script = f"""
import os, resource, signal, sys, time
sys.path[:0] = {sys.path!r}
import pyjob
signal.signal(signal.SIGCHLD, lambda *_: None)
for number in range(150):
    if os.fork() == 0:
        large = bytearray(20 << 20 if number % 10 == 0 else 0)  # so that they do not die all at once
        signal.pause()
lowest = os.open(os.devnull, os.O_RDONLY)
os.close(lowest)
resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 12, 4096))
with pyjob.ProcessHandle(os.getpid()) as handle:
    print(len(pyjob.kill_tree(handle, include_root=False, timeout=30)))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.stdout == "150\n", result.stderr


@pytest.mark.skipif(not LINUX, reason="ptrace")
def test_a_member_that_traces_us():
    """Stopped, it would stop us for ever: it is killed at once, and whom it started all the same."""
    body = """
process = subprocess.Popen(["sh", "-c", 'sleep 300 & exec "$@"', "sh", *tracer, str(os.getpid())])
traced(process, os.getpid())
print(len(pyjob.kill_tree(process)), len(pyjob.children()))
process.wait()
"""
    told, tracer = traced(body)
    assert told == "2 0"
    assert not tracer.alive()


@pytest.mark.main_interpreter
@pytest.mark.skipif(not POSIX, reason="setitimer")
def test_signals_do_not_shorten_it(folder):
    """A timer that fires all the time: the tree dies completely all the same, and the list is whole."""
    script = f"""
import os, time
for _ in range(99):
    if os.fork() == 0:
        break
else:
    open({str(folder / "crowd")!r}, "w").close()
time.sleep(100)
"""
    process = subprocess.Popen([sys.executable, "-S", "-c", script])
    eventually((folder / "crowd").exists)
    before = signal.signal(signal.SIGALRM, lambda number, frame: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        killed = pyjob.kill_tree(process, timeout=30)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(killed) == 100
    process.wait(DEADLINE)


def test_within_a_job_too(backend, tree):
    """A member's tree can be ended like any other; the job sees it gone."""
    with backend.job() as job:
        family = tree(node("top", chain("a", "b"), node("c")))
        program = job.popen(family.argv)
        family.ready()
        assert pyjob.kill_tree(family.pid("a")) == family.pids(["a", "b"])
        assert job.pids() == family.pids(["top", "c"])
        assert pyjob.kill_tree(program.pid) == family.pids(["top", "c"])
        assert program.wait(DEADLINE) == (-signal.SIGKILL if POSIX else 9)
        assert job.pids() == []
