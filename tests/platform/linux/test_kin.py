"""children() and kill_tree() where Linux is peculiar: hidden ancestors, and helpers of ours that are our children."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.procs import DEADLINE, pidfds
from helpers.under_test import Backend

# PIDFD_GET_INFO is of 6.13
ASKS = pidfds() and tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2]) >= (6, 13)

HIDDEN = """
import ctypes, os, signal, subprocess, sys, time
subprocess.run(["mount", "-o", "remount,hidepid=2", "/proc"], check=True)
caps = "-all,+dac_override,+dac_read_search"  # the installation may lie where only root looks
drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
drop += [f"--{one}={caps}" for one in ("inh-caps", "ambient-caps", "bounding-set")]
def sleeper():
    return subprocess.Popen([*drop, "sleep", "100"])
def become_nobody():
    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: in sight of its own user
def is_nobodys(pid):
    return os.stat(f"/proc/{pid}").st_uid == 65534
def await_(what):
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)
def kill_tree_as_nobody(pid):
    code = "import pyjob, sys; print(*pyjob.kill_tree(int(sys.argv[1])))"
    done = subprocess.run([*drop, sys.executable, "-c", code, str(pid)], capture_output=True, text=True)
    return done.stdout + done.stderr
"""


def hidden(folder: Path, code: str) -> str:
    """What a script says that is root and PID 1, where /proc hides it from everybody else."""
    (folder / "script.py").write_text(HIDDEN + code)
    unshare = ["unshare", "--fork", "--pid", "--mount", "--mount-proc", "--kill-child"]
    argv = [*unshare, sys.executable, str(folder / "script.py")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE * 2, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.root
@pytest.mark.tool("unshare", "mount", "setpriv")
@pytest.mark.skipif(not ASKS, reason="only PIDFD_GET_INFO tells the parent of a hidden process")
def test_a_process_that_is_older_than_our_login(folder: Path) -> None:
    """What lies between us and init, as sshd does, is another user's, and hidden."""
    code = """
daemon = sleeper()
await_(lambda: is_nobodys(daemon.pid))
time.sleep(0.05)  # start times tick at 10 ms
said = kill_tree_as_nobody(daemon.pid)
assert said == f"{daemon.pid}\\n", said
assert daemon.wait() == -9
"""
    hidden(folder, code)


@pytest.mark.root
@pytest.mark.tool("unshare", "mount", "setpriv")
@pytest.mark.skipif(not ASKS, reason="only PIDFD_GET_INFO tells the parent of a hidden process")
def test_an_ancestor_beyond_a_hidden_one_is_spared(folder: Path) -> None:
    """Us, hidden (as sudo is), an ancestor, and the root of the tree: all of that is ended but this."""
    code = """
out, into = os.pipe()
if os.fork() == 0:
    top, brother = os.getpid(), sleeper()
    if os.fork() == 0:
        ancestor = os.getpid()
        if os.fork() == 0:
            await_(lambda: all(map(is_nobodys, (top, brother.pid, ancestor))))
            time.sleep(0.05)
            said = kill_tree_as_nobody(top)
            os.write(into, f"{said.split() == [str(top), str(brother.pid)]} {is_nobodys(ancestor)} {said}".encode())
            os._exit(0)
    become_nobody()
    while True:
        signal.pause()
os.close(into)
print(os.read(out, 4096).decode())
"""
    said = hidden(folder, code)
    assert said.startswith("True True"), said


@pytest.mark.parametrize("recursive", [False, True])
def test_a_helper_that_is_our_child_is_spared(backend: Backend, recursive: bool) -> None:
    """Of a caller that orphans go to: a parked process is its child, and the guard is that one's."""
    code = f"""
import ctypes, os, pyjob, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
def helpers():
    pids = os.popen("cat /proc/[0-9]*/stat 2>/dev/null").read().splitlines()
    rows = [(int(row.split()[0]), row[row.index("(") + 1 : row.rindex(")")], row) for row in pids]
    parents = {{pid: int(row[row.rindex(")") + 2 :].split()[1]) for pid, _, row in rows}}
    parked = [pid for pid, name, _ in rows if name == "pyjob-parked" and parents[pid] == os.getpid()]
    return sorted(parked + [pid for pid in parents if parents[pid] in parked])
with pyjob.Job(backend={str(backend)!r}) as job:
    program = job.popen(["sleep", "100"])
    before = helpers()
    assert before or {str(backend)!r} == "process-group"
    assert not set(pyjob.children(recursive={recursive})) & set(before), "listed"
    killed = pyjob.kill_tree(os.getpid(), include_root=False)
    assert not set(killed) & set(before), "killed"
    assert program.wait() == -9
    assert program.pid in killed
    again = job.popen(["sleep", "100"])
    again.kill()
    assert again.wait() == -9
print("spared")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE * 2)
    assert done.stdout == "spared\n", done.stdout + done.stderr
