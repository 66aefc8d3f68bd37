"""ProcessHandle: an identity, not a number; alive, signal, kill, wait, close, and whom it refuses."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import pyjob
from helpers.procs import DEADLINE, eventually, pidfds, processes, start_time
from helpers.tree import chain, node

POSIX = os.name == "posix"
LINUX = sys.platform.startswith("linux")
PIDFD = LINUX and pidfds()
GONE = ProcessLookupError if POSIX else OSError


def sleeper(seconds=300, **options):
    return subprocess.Popen([sys.executable, "-S", "-c", f"import time; time.sleep({seconds})"], **options)


def leaver(code):
    return subprocess.Popen([sys.executable, "-S", "-c", code])


@pytest.fixture
def victim():
    process = sleeper()
    yield process
    process.kill()
    process.wait(DEADLINE)


def unused_pid():
    """One that nobody had lately: just collected."""
    process = leaver("")
    process.wait(DEADLINE)
    pid = process.pid
    del process  # on Windows its handle keeps the PID
    eventually(lambda: start_time(pid) is None)
    return pid


# ---- life


def test_alive_until_killed(victim):
    with pyjob.ProcessHandle(victim.pid) as handle:
        assert handle.pid == victim.pid
        assert handle.is_alive()
        handle.kill()
        handle.wait(DEADLINE)
        assert not handle.is_alive()
        assert victim.wait(DEADLINE) == (-signal.SIGKILL if POSIX else 9)
        assert not handle.is_alive()


def test_create_time(victim):
    now = time.time()
    with pyjob.ProcessHandle(victim.pid) as handle:
        assert now - 60 < handle.create_time < now + 1
        first = handle.create_time
        with pyjob.ProcessHandle(os.getpid()) as own:
            assert own.create_time <= first + 0.02  # a clock tick


def test_from_anything_with_a_pid(victim):
    class Thing:
        pid = victim.pid

    with pyjob.ProcessHandle(victim) as one, pyjob.ProcessHandle(Thing()) as other:
        assert one.pid == other.pid == victim.pid


@pytest.mark.skipif(not LINUX, reason="pidfds")
def test_pinned(victim):
    with pyjob.ProcessHandle(victim.pid) as handle:
        assert handle.pinned == PIDFD


@pytest.mark.skipif(not LINUX, reason="descriptors")
def test_the_pidfd_is_not_inherited(victim):
    with pyjob.ProcessHandle(victim.pid):
        script = """
import os
for number in os.listdir("/proc/self/fd"):
    if os.path.lexists(f"/proc/self/fd/{number}"):
        print(os.readlink(f"/proc/self/fd/{number}"))
"""
        argv = [sys.executable, "-S", "-c", script]
        out = subprocess.run(argv, close_fds=False, capture_output=True, text=True, check=True)
        assert "pipe:" in out.stdout
        assert "pidfd" not in out.stdout


# ---- identity


def test_equal_by_identity(victim):
    other = sleeper()
    try:
        with (
            pyjob.ProcessHandle(victim.pid) as one,
            pyjob.ProcessHandle(victim.pid) as same,
            pyjob.ProcessHandle(other.pid) as stranger,
        ):
            assert one == same
            assert hash(one) == hash(same)
            assert one != stranger
            assert one != victim.pid
            assert one != object()
            assert len({one, same, stranger}) == 2
            same.close()
            assert one == same
            assert hash(one) == hash(same)
    finally:
        other.kill()
        other.wait(DEADLINE)


@pytest.mark.root
@pytest.mark.tool("unshare")
@pytest.mark.skipif(not LINUX, reason="a PID namespace of our own")
def test_not_equal_to_its_successor(folder):
    """The PID is used again: the handle stays that of the dead one, and does nothing to the successor."""
    script = f"""
import os, subprocess, sys, time
sys.path[:0] = {sys.path!r}
import pyjob
first = subprocess.Popen(["sleep", "100"])
handle = pyjob.ProcessHandle(first.pid)
time.sleep(0.05)  # start times tick at 10 ms
first.kill(); first.wait()
for _ in range(200):
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(first.pid - 1))
    second = subprocess.Popen(["sleep", "100"])
    if second.pid == first.pid:
        break
    second.kill(); second.wait()
else:
    raise SystemExit("no reuse")
successor = pyjob.ProcessHandle(second.pid)
assert successor.pid == handle.pid and successor != handle and len({{successor, handle}}) == 2
assert not handle.is_alive() and successor.is_alive()
try:
    handle.send_signal(15)
except ProcessLookupError:
    pass
else:
    raise SystemExit("sent")
handle.kill()
assert handle.wait(0) in (None, -9)
assert pyjob.kill_tree(handle) == []
assert second.poll() is None
successor.kill()
assert second.wait() == -9
print("spared")
"""
    (folder / "script.py").write_text(script)
    argv = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", sys.executable, str(folder / "script.py")]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=100)
    assert result.stdout == "spared\n", result.stdout + result.stderr


def in_a_namespace(folder, script, *more):
    """With a /proc and PIDs of its own: spawn(pid) starts a sleeper with a PID of our choice."""
    head = f"""
import os, subprocess, sys
sys.path[:0] = {sys.path!r}
import pyjob
def spawn(pid):
    for _ in range(200):
        with open("/proc/sys/kernel/ns_last_pid", "w") as last:
            last.write(str(pid - 1))
        child = subprocess.Popen(["sleep", "100"])
        if child.pid == pid:
            return child
        child.kill(); child.wait()
    raise SystemExit("no reuse")
"""
    (folder / "script.py").write_text(head + script)
    argv = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", *more, sys.executable, folder / "script.py"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=100)


NUMBERED = PIDFD and tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2]) >= (6, 9)


@pytest.mark.root
@pytest.mark.tool("unshare")
@pytest.mark.skipif(not NUMBERED, reason="the start time alone tells them apart")
def test_not_equal_to_its_successor_in_the_same_tick(folder):
    """A start time of 10 ms says little: the inode of the pidfd tells them apart."""
    script = """
for _ in range(20):
    first = spawn(300)
    handle = pyjob.ProcessHandle(300)
    first.kill(); first.wait()
    second = spawn(300)
    successor, again = pyjob.ProcessHandle(300), pyjob.ProcessHandle(300)
    assert successor != handle and len({successor, handle}) == 2
    assert successor == again and hash(successor) == hash(again)
    second.kill(); second.wait()
    successor.close()
    assert successor == again != handle
print("told apart")
"""
    result = in_a_namespace(folder, script)
    assert result.stdout == "told apart\n", result.stdout + result.stderr


@pytest.mark.root
@pytest.mark.tool("unshare", "mount")
@pytest.mark.skipif(not PIDFD, reason="who is hidden cannot be pinned without")
def test_the_hidden_are_not_equal_by_their_pid(folder):
    """hidepid keeps the start time from us."""
    script = """
subprocess.run(["mount", "-o", "remount,hidepid=2", "/proc"], check=True)
os.setgroups([])
first = spawn(300)
os.setegid(65534); os.seteuid(65534)
handle = pyjob.ProcessHandle(300)
try:
    print(handle.create_time)
except PermissionError:
    pass
os.seteuid(0)
first.kill(); first.wait()
second = spawn(300)
os.seteuid(65534)
successor = pyjob.ProcessHandle(300)
os.seteuid(0)
second.kill(); second.wait()
print(handle == handle, successor == handle, len({successor, handle}))
"""
    result = in_a_namespace(folder, script, "--mount")
    assert result.stdout == "True False 2\n", result.stdout + result.stderr


# ---- signals


@pytest.mark.skipif(not POSIX, reason="POSIX signals")
def test_send_signal(victim):
    with pyjob.ProcessHandle(victim.pid) as handle:
        handle.send_signal(0)
        handle.send_signal(signal.SIGTERM)
        assert victim.wait(DEADLINE) == -signal.SIGTERM


@pytest.mark.skipif(not POSIX, reason="zombies")
def test_a_zombie_is_dead():
    """The kernel takes a signal for a zombie in silence; we say that nobody is there."""
    process = leaver("")
    with pyjob.ProcessHandle(process.pid) as handle:
        handle.wait(DEADLINE)
        assert not handle.is_alive()
        with pytest.raises(ProcessLookupError):
            handle.send_signal(signal.SIGTERM)
        handle.kill()  # done already
        assert process.wait(DEADLINE) == 0
        with pytest.raises(ProcessLookupError):
            handle.send_signal(signal.SIGTERM)
        handle.kill()


@pytest.mark.skipif(not POSIX, reason="zombies")
def test_a_zombie_can_be_pinned():
    process = leaver("raise SystemExit(5)")
    with pyjob.ProcessHandle(process.pid) as first:
        first.wait(DEADLINE)
        with pyjob.ProcessHandle(process.pid) as handle:
            assert not handle.is_alive()
            assert handle == first
            assert handle.wait(0) == 5
    assert process.wait(DEADLINE) == 5


# ---- wait


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_wait_tells_the_exit_code_and_never_reaps(code):
    process = leaver(f"import time; time.sleep(0.1); raise SystemExit({code})")
    with pyjob.ProcessHandle(process.pid) as handle:
        assert handle.wait(DEADLINE) == code
        assert handle.wait() == code
    assert process.wait(DEADLINE) == code


@pytest.mark.skipif(not POSIX, reason="POSIX signals")
def test_wait_tells_the_signal():
    process = leaver("import os; os.abort()")
    with pyjob.ProcessHandle(process.pid) as handle:
        assert handle.wait(DEADLINE) == -signal.SIGABRT
    assert process.wait(DEADLINE) == -signal.SIGABRT


def test_wait_times_out(victim):
    with pyjob.ProcessHandle(victim.pid) as handle:
        for timeout in (0, 0.05, -1):
            begun = time.monotonic()
            with pytest.raises(subprocess.TimeoutExpired):
                handle.wait(timeout)
            assert time.monotonic() - begun < 20
        assert handle.is_alive()


@pytest.mark.skipif(not LINUX, reason="reads /proc")
@pytest.mark.parametrize("code", [0, 7])
def test_wait_for_a_process_that_is_not_our_child(folder, code):
    """A grandchild that its parent does not reap: told, for we may look at it. Reaped: told by Linux 6.15 and later."""
    script = f"""
import os, time
pid = os.fork()
if pid == 0:
    while not os.path.exists({str(folder / "go")!r}):
        time.sleep(0.01)
    os._exit({code})
open({str(folder / "pid.new")!r}, "w").write(str(pid))
os.rename({str(folder / "pid.new")!r}, {str(folder / "pid")!r})
while not os.path.exists({str(folder / "reap")!r}):
    time.sleep(0.01)
os.waitpid(pid, 0)
open({str(folder / "reaped")!r}, "w").close()
time.sleep(300)
"""
    parent = leaver(script)
    try:
        eventually((folder / "pid").exists)
        with pyjob.ProcessHandle(int((folder / "pid").read_text())) as handle:
            with pytest.raises(subprocess.TimeoutExpired):
                handle.wait(0.05)
            (folder / "go").touch()
            assert handle.wait(DEADLINE) == code
            (folder / "reap").touch()
            eventually((folder / "reaped").exists)
            release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
            assert handle.wait(0) == (code if PIDFD and release >= (6, 15) else None)
    finally:
        parent.kill()
        parent.wait(DEADLINE)


def test_wait_in_another_thread(victim):
    with pyjob.ProcessHandle(victim.pid) as handle:
        found = []
        waiter = threading.Thread(target=lambda: found.append(handle.wait(DEADLINE)))
        waiter.start()
        time.sleep(0.05)
        assert handle.is_alive()
        assert not found
        handle.kill()
        waiter.join(DEADLINE)
        assert found == [-signal.SIGKILL if POSIX else 9]


@pytest.mark.main_interpreter
@pytest.mark.skipif(not POSIX, reason="setitimer")
def test_wait_obeys_signal_handlers(victim):
    class Rang(Exception):
        pass

    def ring(number, frame):
        raise Rang

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pyjob.ProcessHandle(victim.pid) as handle:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            begun = time.monotonic()
            with pytest.raises(Rang):
                handle.wait(DEADLINE)
            assert time.monotonic() - begun < 20
            signal.signal(signal.SIGALRM, lambda number, frame: None)  # one that returns: the wait goes on
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(subprocess.TimeoutExpired):
                handle.wait(0.3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- close


def test_after_close(victim):
    handle = pyjob.ProcessHandle(victim.pid)
    handle.close()
    handle.close()
    assert handle.pid == victim.pid
    for operation in (
        handle.is_alive,
        handle.kill,
        handle.wait,
        lambda: handle.send_signal(15),
        lambda: pyjob.kill_tree(handle),
        lambda: pyjob.children(handle),
    ):
        with pytest.raises(ValueError, match="closed"):
            operation()
    assert victim.poll() is None


def test_close_wakes_the_waiter(victim):
    handle = pyjob.ProcessHandle(victim.pid)
    found = []

    def wait():
        try:
            handle.wait(DEADLINE)
        except ValueError as error:
            found.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.05)
    begun = time.monotonic()
    handle.close()
    waiter.join(DEADLINE)
    assert found
    assert time.monotonic() - begun < 20


# ---- bad input


def test_a_pid_that_nobody_has():
    pid = unused_pid()
    with pytest.raises(GONE):
        pyjob.ProcessHandle(pid)
    if LINUX:
        with pytest.raises(ProcessLookupError, match="pidfd_open" if PIDFD else None):
            pyjob.ProcessHandle(2**22 + 1)  # more than any kernel gives out


def test_a_finished_popen_is_not_taken_for_its_successor():
    process = leaver("")
    process.wait(DEADLINE)
    with pytest.raises(GONE):
        pyjob.ProcessHandle(process)


@pytest.mark.skipif(not LINUX, reason="thread ids are process ids")
def test_the_id_of_a_thread():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert thread.native_id != os.getpid()
        with pytest.raises(ProcessLookupError):
            pyjob.ProcessHandle(thread.native_id)
        with pytest.raises(ProcessLookupError):
            pyjob.kill_tree(thread.native_id)
        with pytest.raises(ProcessLookupError):
            pyjob.children(thread.native_id)
    finally:
        stop.set()
        thread.join()


def test_our_own_pid():
    with pyjob.ProcessHandle(os.getpid()) as handle:
        assert handle.is_alive()
        with pytest.raises(subprocess.TimeoutExpired):
            handle.wait(0)


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_a_kernel_thread():
    threads = [one for one in processes() if one.ppid == 2 and not one.argv()]
    if not threads:
        pytest.skip("no kernel thread is visible in this PID namespace")
    with pyjob.ProcessHandle(threads[0].pid) as handle:
        assert handle.is_alive()
        assert pyjob.children(handle) == []
        for act in (handle.kill, lambda: handle.send_signal(15), lambda: pyjob.kill_tree(handle, timeout=0.1)):
            with pytest.raises(PermissionError):
                act()


@pytest.mark.unprivileged
@pytest.mark.skipif(not POSIX, reason="init")
def test_another_users():
    with pyjob.ProcessHandle(1) as handle:
        assert handle.is_alive()
        with pytest.raises(PermissionError):
            handle.send_signal(signal.SIGTERM)
        with pytest.raises(PermissionError):
            handle.kill()


@pytest.mark.root
@pytest.mark.tool("setpriv")
@pytest.mark.skipif(not LINUX, reason="setpriv")
def test_another_users_as_nobody(victim, as_nobody):
    """The same where the suite runs as root: a program without rights tries it on one of ours."""
    script = f"""
with pyjob.ProcessHandle({victim.pid}) as handle:
    assert handle.is_alive()
    for act in (handle.kill, lambda: handle.send_signal(signal.SIGTERM), lambda: pyjob.kill_tree(handle)):
        try:
            act()
        except PermissionError as error:
            assert {"pidfd_send_signal" if PIDFD else "kill"!r} in str(error), error
        else:
            raise SystemExit("no refusal")
print("refused")
"""
    assert as_nobody(script) == "refused"
    assert victim.poll() is None


@pytest.mark.skipif(not POSIX, reason="descriptors")
def test_no_descriptor_left(victim):
    """Out of descriptors is an error that says so, not a handle that is weaker."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        with pytest.raises(OSError, match="pidfd_open" if PIDFD else None) as caught:
            pyjob.ProcessHandle(victim.pid)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    import errno

    assert caught.value.errno == errno.EMFILE
    assert victim.poll() is None


# ---- a moving world


@pytest.mark.skipif(not LINUX, reason="exec by a thread")
def test_exec_by_another_thread_keeps_the_identity(folder):
    """A thread that executes a program takes the process over; the handle names the same process, before and after."""
    script = f"""
import os, sys, threading
def go():
    sys.stdin.read(1)
    code = "import time; open({str(folder / "there")!r}, 'w'); time.sleep(300)"
    os.execv(sys.executable, [sys.executable, "-S", "-c", code])
thread = threading.Thread(target=go)
thread.start()
thread.join()
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    try:
        with pyjob.ProcessHandle(process.pid) as before:
            process.stdin.write(b"x")
            process.stdin.close()
            looks = 0
            while not (folder / "there").exists():
                assert before.is_alive()
                with pyjob.ProcessHandle(process.pid) as again:
                    assert again == before
                looks += 1
            assert looks > 0
            with pyjob.ProcessHandle(process.pid) as after:
                assert after == before
    finally:
        process.kill()
        process.wait(DEADLINE)


def test_handles_of_a_tree(tree):
    family = tree(chain("top", "child", "grandchild"))
    process = subprocess.Popen(family.argv)
    family.ready()
    handles = {name: pyjob.ProcessHandle(family.pid(name)) for name in family.names}
    handles["child"].kill()
    handles["child"].wait(DEADLINE)
    family.assert_dead(["child"])
    family.assert_alive(["top", "grandchild"])
    for handle in handles.values():
        handle.kill()
        handle.wait(DEADLINE)
        handle.close()
    process.wait(DEADLINE)


@pytest.mark.main_interpreter
@pytest.mark.skipif(not POSIX, reason="fork")
def test_usable_in_a_forked_child(victim):
    """A handle belongs to no owner: the child's copy works, and its close is its own."""
    with pyjob.ProcessHandle(victim.pid) as handle:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                code = 0 if handle.is_alive() else 1
                handle.close()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert handle.is_alive()


def test_many_handles_of_one(victim):
    handles = [pyjob.ProcessHandle(victim.pid) for _ in range(100)]
    assert len(set(handles)) == 1
    for handle in handles:
        handle.close()
    assert victim.poll() is None


def test_a_tree_node_that_was_asked(tree):
    """What send_signal sends arrives at this one alone."""
    family = tree(node("top", node("child", mark=True)))
    process = subprocess.Popen(family.argv)
    family.ready()
    if POSIX:
        with pyjob.ProcessHandle(family.pid("child")) as handle:
            handle.send_signal(signal.SIGTERM)
            handle.wait(DEADLINE)
        assert family.was_asked("child")
        family.assert_alive(["top"])
    process.kill()
    process.wait(DEADLINE)


@pytest.mark.main_interpreter
@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork() is a POSIX call")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_close_in_a_forked_child_waits_for_no_thread_of_the_parent(victim):
    handle = pyjob.ProcessHandle(victim.pid)
    waiter = threading.Thread(target=lambda: handle.wait(DEADLINE))
    waiter.start()
    eventually(lambda: waiter.is_alive() and waiting(waiter))
    child = os.fork()
    if child == 0:
        handle.close()
        os._exit(0)
    with pyjob.ProcessHandle(child) as forked:
        try:
            assert forked.wait(DEADLINE) == 0
        finally:
            forked.kill()
            os.waitpid(child, 0)
    victim.kill()
    waiter.join()
    handle.close()


def waiting(thread):
    """Whether it is in a system call that waits, as far as the system tells."""
    if not LINUX:
        return True
    with open(f"/proc/self/task/{thread.native_id}/wchan") as file:
        return "poll" in file.read()


def test_a_handle_of_a_handle_is_its_own(victim):
    with pyjob.ProcessHandle(victim.pid) as first:
        with pyjob.ProcessHandle(first) as second:
            assert second == first
        assert first.is_alive()
        with pytest.raises(ValueError, match="closed"):
            pyjob.ProcessHandle(second)


@pytest.mark.main_interpreter
@pytest.mark.skipif(not POSIX, reason="signals")
def test_no_signal_handler_is_seen_in_a_short_call(victim, tree):
    """poll(2) that does not wait returns EINTR all the same; stock never raises it (PEP 475)."""
    former = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        with pyjob.ProcessHandle(victim.pid) as handle:
            for _ in range(60_000):
                handle.is_alive()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


@pytest.mark.skipif(not LINUX, reason="ns_last_pid")
@pytest.mark.root
@pytest.mark.tool("unshare", "strace")
def test_the_exit_status_is_never_that_of_a_successor(folder):
    """Without PIDFD_GET_INFO (kernels below 6.15): it was collected, and another child of ours has its PID."""
    script = folder / "wait.py"
    script.write_text("""
import os, pyjob, time
def start(code):
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write("199")
    pid = os.fork()
    if pid == 0:
        os._exit(code)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid
first = start(1)
handle = pyjob.ProcessHandle(first)
print(handle.wait(1))
os.waitpid(first, 0)
time.sleep(0.02)  # another tick of the clock that is part of an identity
second = start(7)
print(first == second, handle.wait(1))
os.waitpid(second, 0)
""")
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=ioctl", "-e", "inject=ioctl:error=ENOTTY"]
    result = subprocess.run(
        ["unshare", "-fp", "--mount-proc", *strace, sys.executable, str(script)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.stdout == "1\nTrue None\n", result.stdout + result.stderr
