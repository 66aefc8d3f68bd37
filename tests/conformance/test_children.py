"""children(): by parent PID, in one pass, right under a moving tree; a recycled parent PID is never believed."""

import os
import subprocess
import sys
import threading
import time

import pytest

import pyjob
from helpers.procs import DEADLINE, alive, descendants, eventually, pid_max_is_per_namespace, processes, start_time
from helpers.tree import chain, node

LINUX = sys.platform.startswith("linux")
POSIX = os.name == "posix"


@pytest.fixture
def family(tree):
    made = tree(node("top", chain("a", "b", "c"), node("d", how="setsid" if POSIX else "exec"), node("e")))
    process = subprocess.Popen(made.argv)
    made.ready()
    yield made
    made.end()
    process.wait(DEADLINE)


def test_direct(family):
    assert pyjob.children(family.pid("top")) == family.pids(["a", "d", "e"])
    assert pyjob.children(family.pid("a")) == family.pids(["b"])
    assert pyjob.children(family.pid("c")) == []


def test_recursive(family):
    assert pyjob.children(family.pid("top"), recursive=True) == family.pids(["a", "b", "c", "d", "e"])
    assert pyjob.children(family.pid("b"), recursive=True) == family.pids(["c"])
    assert pyjob.children(family.pid("c"), recursive=True) == []


def test_our_own(family):
    ours = pyjob.children()
    assert family.pid("top") in ours
    assert family.pid("a") not in ours
    assert ours == pyjob.children(os.getpid()) == sorted(ours)
    everybody = pyjob.children(recursive=True)
    assert set(family.pids()) <= set(everybody)


def test_of_a_handle(family):
    with pyjob.ProcessHandle(family.pid("top")) as handle:
        assert pyjob.children(handle) == pyjob.children(family.pid("top"))


def test_the_caller_is_among_its_parents_children():
    if os.getppid() == 0:
        pytest.skip("Wine does not tell who started it")
    if LINUX and not os.path.exists(f"/proc/{os.getppid()}"):
        with pytest.raises(PermissionError):
            pyjob.children(os.getppid())
        pytest.skip("hidepid hides our parent")
    assert os.getpid() in pyjob.children(os.getppid())


def test_orphans_are_nobodys_children(tree):
    """The Unix way: who was orphaned has another parent. (A job finds it; see pain 5.)"""
    family = tree(node("top", node("middle", node("orphan"), exit=0)))
    process = subprocess.Popen(family.argv)
    family.ready()
    if POSIX:
        eventually(lambda: pyjob.children(family.pid("top"), recursive=True) == [])
    assert family.pid("orphan") not in pyjob.children(family.pid("top"), recursive=True)
    family.assert_alive(["orphan"])
    family.end()
    process.wait(DEADLINE)


@pytest.mark.skipif(not POSIX, reason="zombies")
def test_zombies_are_not_living():
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    with pyjob.ProcessHandle(process.pid) as handle:
        handle.wait(DEADLINE)
        assert process.pid not in pyjob.children()
        assert pyjob.children(handle) == []
    process.wait(DEADLINE)


def test_nobody():
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait(DEADLINE)
    pid = process.pid
    del process  # on Windows its handle keeps the PID
    eventually(lambda: start_time(pid) is None)
    with pytest.raises(ProcessLookupError):
        pyjob.children(pid)


@pytest.mark.skipif(not LINUX, reason="hostile names")
def test_hostile_names(folder):
    """The name of a process can look like the rest of its line in /proc."""
    script = f"""
import ctypes, time
ctypes.CDLL(None).prctl(15, b") Z 1 1 (\\n")  # PR_SET_NAME
open({str(folder / "named")!r}, "w")
time.sleep(300)
"""
    process = subprocess.Popen([sys.executable, "-S", "-c", script])
    try:
        eventually((folder / "named").exists)
        assert process.pid in pyjob.children()
        with pyjob.ProcessHandle(process.pid) as handle:
            assert handle.is_alive()
            assert pyjob.kill_tree(handle) == [process.pid]
    finally:
        process.kill()
        process.wait(DEADLINE)


@pytest.mark.skipif(not LINUX, reason="compares with /proc")
def test_the_same_as_a_plain_reading():
    if not os.path.exists("/proc/1"):
        pytest.skip("hidepid hides init")
    wanted = sorted(one.pid for one in descendants(1) if one.state not in "ZX")
    found = pyjob.children(1, recursive=True)
    both = set(wanted) & set(found)
    assert all(alive(pid) is False or pid in both or _younger(pid) for pid in set(wanted) ^ set(found))
    assert len(both) > 0


def _younger(pid):
    """Started during the comparison."""
    try:
        with pyjob.ProcessHandle(pid) as handle:
            return handle.create_time > time.time() - 5
    except ProcessLookupError:
        return True


@pytest.mark.skipif(not POSIX, reason="fork")
def test_deep(folder):
    """500 levels: no recursion, no limit of ours."""
    script = f"""
import os, sys, time
depth = 0
while depth < 500 and os.fork() == 0:
    depth += 1
if depth == 500:
    open({str(folder / "deep")!r}, "w")
time.sleep(100)
"""
    process = subprocess.Popen([sys.executable, "-S", "-c", script])
    try:
        eventually((folder / "deep").exists, 60)
        assert len(pyjob.children(process.pid, recursive=True)) == 500
        assert len(pyjob.children(process.pid)) == 1
    finally:
        assert len(pyjob.kill_tree(process.pid, timeout=60)) == 501
        process.wait(DEADLINE)


@pytest.mark.skipif(not POSIX, reason="fork")
def test_what_stays_is_found_while_others_come_and_go(folder, tree):
    """Those who live all the time are in every answer, however the rest moves; and no stranger is ever in one."""
    family = tree(node("top", *(node(f"n{i}") for i in range(8))))
    process = subprocess.Popen(family.argv)
    family.ready()
    forks = "import os\nwhile True:\n    if os.fork() == 0: os._exit(0)\n    os.wait()"
    churn = subprocess.Popen([sys.executable, "-S", "-c", forks])
    stay = set(family.pids()) - {process.pid}
    try:
        for _ in range(100):
            assert set(pyjob.children(process.pid)) == stay
    finally:
        churn.kill()
        churn.wait(DEADLINE)
        family.end()
        process.wait(DEADLINE)


CHURN = """
import os, time
def fork():
    while True:
        try:
            return os.fork()
        except BlockingIOError:  # every PID is in use, until the namespace's PID 1 reaps
            time.sleep(0.001)
while True:
    if fork() == 0:
        fork()
        os._exit(0)
    os.wait()
"""


@pytest.mark.root
@pytest.mark.tool("unshare")
@pytest.mark.skipif(not LINUX, reason="a PID namespace of our own")
@pytest.mark.skipif(not pid_max_is_per_namespace(), reason="pid_max is per namespace only since Linux 6.14")
def test_a_recycled_parent_pid_is_not_believed(folder):
    """With 400 PIDs and constant churn, no answer ever holds a child older than its alleged parent."""
    script = f"""
import os, subprocess, sys, time
sys.path[:0] = {sys.path!r}
import pyjob
def start_time(pid):
    try:
        text = open(f"/proc/{{pid}}/stat").read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(text[text.rindex(")") + 2:].split()[19])
open("/proc/sys/kernel/pid_max", "w").write("400")
churns = [subprocess.Popen([sys.executable, "-S", "-c", {CHURN!r}]) for _ in range(2)]
end = time.monotonic() + 5
answers = believed = 0
while time.monotonic() < end:
    for pid in [churns[0].pid, churns[1].pid]:
        born = start_time(pid)
        for child in pyjob.children(pid, recursive=True):
            answers += 1
            later = start_time(child)
            if later is not None and later < born:
                believed += 1
    while True:  # PID 1 of this namespace reaps
        try:
            done, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if done == 0:
            break
for one in churns:
    one.kill()
print(answers > 0, believed)
"""
    (folder / "script.py").write_text(script)
    argv = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", sys.executable, str(folder / "script.py")]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=100)
    assert result.stdout == "True 0\n", result.stdout + result.stderr


def test_from_many_threads(family):
    wanted = family.pids(["a", "d", "e"])
    wrong = []

    def ask():
        for _ in range(20):
            found = pyjob.children(family.pid("top"))
            if found != wanted:
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(DEADLINE)
    assert wrong == []


@pytest.mark.skipif(not LINUX, reason="descriptors")
def test_no_descriptor_left():
    """An answer that could not be had is an error, never an empty list."""
    import errno
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pyjob.ProcessHandle(os.getpid()) as own:
        lowest = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest)
        for free in (0, 1):
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + free, limits[1]))
            try:
                with pytest.raises(OSError, match="/proc") as caught:
                    pyjob.children(own)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert caught.value.errno == errno.EMFILE


@pytest.mark.root
@pytest.mark.tool("unshare", "mount")
@pytest.mark.skipif(not LINUX, reason="/proc")
def test_a_proc_that_is_not_ours_is_refused(folder):
    """Another namespace's /proc would name strangers; something else in its place would name nobody."""
    ask = f"""
import sys
sys.path[:0] = {sys.path!r}
import pyjob
try:
    print(pyjob.children())
except OSError as error:
    print(error)
"""
    (folder / "ask.py").write_text(ask)
    command = [sys.executable, str(folder / "ask.py")]
    foreign = subprocess.run(["unshare", "--fork", "--pid", *command], capture_output=True, text=True, timeout=60)
    assert "PID namespace" in foreign.stdout, foreign.stdout + foreign.stderr
    script = 'mount -t tmpfs none /proc && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", *command]
    nothing = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert "not a procfs" in nothing.stdout, nothing.stdout + nothing.stderr


def test_processes_helper_sees_us():
    """The comparison above is worth something."""
    if LINUX:
        assert any(one.pid == os.getpid() for one in processes())
