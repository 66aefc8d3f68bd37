"""What only Windows has: kernel objects, names and handles, nesting under strangers, console groups, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

if sys.platform != "win32":
    pytest.skip("job objects are Windows'", allow_module_level=True)

import ctypes
from ctypes import wintypes

import pyjob
from helpers.leftovers import handles
from helpers.procs import DEADLINE, Identity, eventually
from helpers.tree import chain
from pyjob import _native

kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
kernel32.CreateEventW.restype = kernel32.GetCurrentProcess.restype = wintypes.HANDLE
kernel32.CloseHandle.argtypes = [wintypes.HANDLE]

ERROR_ACCESS_DENIED = 5
ERROR_ALREADY_EXISTS = 183
CREATE_BREAKAWAY_FROM_JOB = 0x01000000
SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]


@pytest.fixture
def name():
    return f"test-{os.getpid()}-{time.monotonic_ns()}"


def user_sid() -> str:
    token, length = wintypes.HANDLE(), wintypes.DWORD()
    process = wintypes.HANDLE(kernel32.GetCurrentProcess())
    assert advapi32.OpenProcessToken(process, 0x8, ctypes.byref(token))
    buffer = ctypes.create_string_buffer(256)
    assert advapi32.GetTokenInformation(token, 1, buffer, 256, ctypes.byref(length))
    text = wintypes.LPWSTR()
    sid = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_void_p)).contents
    assert advapi32.ConvertSidToStringSidW(sid, ctypes.byref(text))
    kernel32.CloseHandle(token)
    return str(text.value)


def script(body: str, *arguments: str, **options: object) -> dict[str, object]:
    """Runs `body` in a Python of its own; it prints one line of JSON."""
    command = [sys.executable, "-c", textwrap.dedent(body), *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


# ---- Names and handles on Windows


def test_a_name_that_another_kind_of_object_has_is_in_use(name):
    handle = kernel32.CreateEventW(None, True, False, f"Local\\pyjob-{user_sid()}-{name}")
    assert handle
    try:
        with pytest.raises(FileExistsError) as refused:
            pyjob.Job(name)
        assert refused.value.winerror == ERROR_ALREADY_EXISTS
        with pytest.raises(FileNotFoundError):
            pyjob.Job.open(name)
    finally:
        kernel32.CloseHandle(handle)
    pyjob.Job(name).close()


def test_names_tell_capitals_apart(name):
    with pyjob.Job(name + "-a"), pyjob.Job(name + "-A"):
        pass


def test_the_members_go_with_the_owner_though_the_name_is_held_open(name, owners, tree):
    family = tree(chain("top", "child"))
    body = """
        job = pyjob.Job(argument["name"])
        program = job.popen(argument["argv"], stdin=subprocess.DEVNULL)
    """
    with owners(body, end="TerminateProcess", argument={"name": name, "argv": family.argv}) as owner:
        owner.ready()
        family.ready()
        with pyjob.Job.open(name) as other:
            assert other.pids() == family.pids()
            owner.end()
            owner.wait()
            family.assert_dead(deadline=10)
            other.wait(DEADLINE)
            assert other.pids() == []


def test_an_outsider_that_inherits_handles_keeps_nobody_alive(owners, tree):
    inside, outside = tree(chain("inside")), tree(chain("outside"))
    body = """
        job = pyjob.Job()
        member = job.popen(argument["inside"], close_fds=False)
        stranger = subprocess.Popen(argument["outside"], close_fds=False)
    """
    argument = {"inside": inside.argv, "outside": outside.argv}
    with owners(body, end="TerminateProcess", argument=argument) as owner:
        owner.ready()
        inside.ready()
        outside.ready()
        owner.end()
        owner.wait()
        inside.assert_dead(deadline=10)
        outside.assert_alive()
        outside.end()


def is_free(name: str) -> bool:
    try:
        pyjob.Job.open(name).close()
    except FileNotFoundError:
        return True
    return False


def use_everything(name: str) -> None:
    with pyjob.Job(name) as job, pyjob.Job.open(name) as other:
        with job.popen(["cmd", "/c", "exit"], creationflags=subprocess.CREATE_NEW_PROCESS_GROUP) as program:
            list(job.members())
            other.pids()
            job.send_signal(signal.CTRL_BREAK_EVENT)
            program.wait(DEADLINE)
        with pytest.raises(FileNotFoundError):
            job.popen(["no-such-program-here"])
        job.kill()


def test_handles_stay_flat(name):
    use_everything(name)
    before = handles()
    for _ in range(5):
        eventually(lambda: is_free(name))  # Wine keeps a name for as long as an ended member can be looked at
        use_everything(name)
    assert handles() <= before + 2


# ---- starting


def spawn(job: _native.Job, argv: list[str], creation: int = 0) -> tuple[int, int, int, int, str]:
    line = subprocess.list2cmdline(argv)
    return job.spawn_windows(None, line, None, None, True, None, None, 0, 0, creation, False)


def finish(*handles: int) -> None:
    for handle in handles:
        kernel32.CloseHandle(handle)


def test_it_starts_by_job_list():
    job = _native.Job.create("job-object", None, None, False, "")
    process, thread, pid, tid, path = spawn(job, SLEEP)
    assert path == "job-list"
    assert job.pids() == [pid]
    assert tid > 0
    finish(process, thread)
    assert job.close(True, DEADLINE) == []


def test_suspended_stays_suspended(folder):
    marker = folder / "ran"
    with pyjob.Job() as job:
        argv = [sys.executable, "-S", "-c", f"open({str(marker)!r}, 'w')"]
        program = job.popen(argv, creationflags=0x4)
        assert program.pid in job
        time.sleep(1)
        assert not marker.exists()
        program.kill()
        program.wait(DEADLINE)


def test_who_cannot_be_moved_in_never_ran(tmp_path):
    """The caller is in a job that the other job does not lie in: refused, and nothing of the start is left."""
    body = """
        import json, subprocess, sys
        from pyjob import _native
        other = _native.Job.create("job-object", None, None, False, "")
        sleep = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]
        outsider = subprocess.Popen(sleep)
        other.assign(_native.Process(outsider.pid))
        mine = _native.Job.create("job-object", None, None, False, "")
        mine.assign_self()
        line = subprocess.list2cmdline([sys.executable, "-S", "-c", f"open({sys.argv[1]!r}, 'w')"])
        try:
            other.spawn_windows(None, line, None, None, True, None, None, 0, 0, 0, False)
            error = 0
        except OSError as refused:
            error = refused.winerror
        left = mine.pids()
        others = other.pids() == [outsider.pid]
        other.close(True, 5.0)
        mine.close(True, 5.0)
        print(json.dumps(dict(error=error, left=len(left), others=others)))
    """
    marker = tmp_path / "ran"
    assert script(body, str(marker)) == {"error": ERROR_ACCESS_DENIED, "left": 1, "others": True}
    assert not marker.exists()


def test_nobody_breaks_away(folder):
    """A member that asks for CREATE_BREAKAWAY_FROM_JOB is refused, or its child is a member all the same."""
    code = f"""
import subprocess, sys, time
try:
    child = subprocess.Popen({SLEEP!r}, creationflags={CREATE_BREAKAWAY_FROM_JOB})
    text = str(child.pid)
except PermissionError:
    text = "refused"
open(sys.argv[1] + ".new", "w").write(text)
import os
os.replace(sys.argv[1] + ".new", sys.argv[1])
time.sleep(300)
"""
    answer = folder / "answer"
    with pyjob.Job() as job:
        program = job.popen([sys.executable, "-c", code, str(answer)], stdin=subprocess.DEVNULL)
        eventually(answer.exists)
        text = answer.read_text()
        assert text == "refused" or int(text) in job
        job.kill()
        program.wait(DEADLINE)


def test_inside_a_stranger_s_job():
    """As under CI services and the Task Scheduler: ours nests, and the other members of the stranger's live on."""
    body = """
        import ctypes, json, subprocess, sys
        from ctypes import wintypes
        k = ctypes.WinDLL("kernel32", use_last_error=True)
        k.CreateJobObjectW.restype = k.GetCurrentProcess.restype = wintypes.HANDLE
        k.AssignProcessToJobObject.argtypes = [wintypes.HANDLE, wintypes.HANDLE]
        stranger = k.CreateJobObjectW(None, None)
        assert k.AssignProcessToJobObject(stranger, k.GetCurrentProcess())
        import pyjob
        sleep = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]
        bystander = subprocess.Popen(sleep)
        with pyjob.Job() as job:
            programs = [job.popen(sleep) for _ in range(3)]
            seen = job.pids() == sorted(p.pid for p in programs)
            programs[0].kill()
            one = [programs[0].wait(30), programs[1].poll(), programs[2].poll()]
            job.kill()
            codes = [p.wait(30) for p in programs]
        lives = bystander.poll() is None
        bystander.kill()
        bystander.wait()
        print(json.dumps(dict(seen=seen, one=one, codes=codes, lives=lives)))
    """
    assert script(body) == {"seen": True, "one": [1, None, None], "codes": [1, 1, 1], "lives": True}


# ---- listing


def test_the_list_grows_beyond_its_first_room():
    with pyjob.Job() as job:
        programs = [job.popen(["cmd", "/k"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(70)]
        assert job.pids() == sorted(one.pid for one in programs)
        assert sum(1 for _ in job.members()) == 70
        job.kill(DEADLINE)
        assert job.pids() == []
        for one in programs:
            assert one.stdin is not None
            one.stdin.close()
            one.wait(DEADLINE)


# ---- processes


def test_exit_codes_are_those_of_subprocess():
    code = "import ctypes; ctypes.WinDLL('kernel32').ExitProcess(0xC0000005)"
    stock = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
    handle = pyjob.ProcessHandle(stock.pid)
    assert handle.wait(DEADLINE) == stock.wait(DEADLINE) == 0xC0000005
    with pyjob.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL) as ours:
        assert ours.wait(DEADLINE) == 0xC0000005


def test_a_pid_is_nobody_s_but_the_exact_one():
    """OpenProcess() ignores the two lowest bits, and thread ids are of the same kind."""
    for pid in (os.getpid() + 1, os.getpid() + 2, kernel32.GetCurrentThreadId()):
        with pytest.raises(ProcessLookupError):
            pyjob.ProcessHandle(pid)


def test_the_dead_are_neither_members_nor_signalled():
    with pyjob.Job() as job:
        program = job.popen(SLEEP)
        handle = pyjob.ProcessHandle(program.pid)
        assert handle in job
        program.kill()
        program.wait(DEADLINE)
        assert handle not in job
        assert not handle.is_alive()
        handle.kill()  # is content
        with pytest.raises(ProcessLookupError):
            handle.send_signal(signal.SIGTERM)
        with pytest.raises(ProcessLookupError):
            job.assign(handle)


# ---- console events


def can_break() -> bool:
    """Whether this system delivers CTRL_BREAK at all."""
    one = subprocess.Popen(SLEEP, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP)
    try:
        one.send_signal(signal.CTRL_BREAK_EVENT)
        one.wait(5)
        return True
    except (OSError, SystemError, subprocess.TimeoutExpired):  # os.kill() on Wine: an error, and a result
        return False
    finally:
        one.kill()
        one.wait()


def test_break_reaches_the_groups_that_we_started_and_nobody_else(bystander):
    with pyjob.Job() as job:
        follower = job.popen(SLEEP)
        leader = job.popen(SLEEP, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP)
        time.sleep(1)
        job.send_signal(signal.CTRL_BREAK_EVENT)  # whoever is on our console would have got it, ourselves included
        time.sleep(1)
        assert follower.poll() is None
        bystander.assert_alive()
        if can_break():
            assert leader.wait(DEADLINE) != 0
        job.kill()
        for one in (follower, leader):
            one.wait(DEADLINE)


def test_a_leader_is_told_though_it_lies_in_a_nested_job():
    if not can_break():
        pytest.skip("this system does not deliver CTRL_BREAK (Wine)")
    with pyjob.Job() as job:
        leader = job.popen(SLEEP, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP)
        identity = Identity.of(leader.pid)
        time.sleep(1)
        job.stop(grace=DEADLINE)
        assert not identity.alive()
        assert leader.wait(DEADLINE) != 1  # not ended by us
