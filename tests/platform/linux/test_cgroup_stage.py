"""assign() moves by number: whom it moved by mistake is nobody's member, whoever kills the job meanwhile.

In a PID namespace of our own, where the next PID can be chosen, an owner's calls are stretched so far that the process
it assigns ends, and a stranger gets its PID, between the last look and the move.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.leftovers import own_cgroup
from helpers.under_test import Backend

pytestmark = [pytest.mark.root, pytest.mark.tool("strace", "unshare")]

COMMON = """
import os, signal, subprocess, sys, time
sys.path[:0] = {path!r}
import pyjob
IDLE = ["sh", "-c", "trap : USR1; echo; while :; do sleep 0.1; done"]
"""
OWNER = """
name, victim, trace = sys.argv[1], int(sys.argv[2]), sys.argv[3]
job = pyjob.Job(name, backend="cgroup")
handle = pyjob.ProcessHandle(victim)
member = job.popen(IDLE, stdout=subprocess.PIPE)
member.stdout.readline()
print(os.getpid(), member.pid, flush=True)
try:
    job.assign(handle)
except ProcessLookupError:
    print("refused", flush=True)
else:
    print("assigned", flush=True)
sys.stdin.read()
job.close()
"""
SCENE = """
how, trace, script, home = sys.argv[1:]
namespace = os.stat("/proc/self/ns/pid").st_ino
name = f"stage-{namespace}-{time.monotonic_ns()}"


def eventually(check, seconds=20):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, check.__name__
        time.sleep(0.002)


def group(pid):
    with open(f"/proc/{pid}/cgroup") as file:
        return next(line[3:-1] for line in file if line.startswith("0::"))


def idle(pid=0):
    while True:
        if pid:
            with open("/proc/sys/kernel/ns_last_pid", "w") as last:
                last.write(str(pid - 1))
        made = os.fork()
        if made == 0:
            os.closerange(3, 100)  # not the owner's end to be
            while True:
                signal.pause()
        if not pid or made == pid:
            return made
        end(made)


def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def makes_the_stage():
    return os.path.exists(trace) and "/in-" in open(trace).read()


def is_moved():
    return "/in-" in group(process)


victim = process = idle()
strace = ["strace", "-f", "-qqq", "-o", trace, "-e", "trace=mkdirat,poll",
          "-e", "inject=mkdirat,poll:delay_enter=800000", sys.executable, script, name, str(victim), trace]
outer = pyjob.Job(backend="cgroup") if how == "outer" else None
start = outer.popen if outer else subprocess.Popen
owner = start(strace, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
pid, member = map(int, owner.stdout.readline().split())
eventually(makes_the_stage)
if how != "genuine":
    end(victim)
    process = idle(victim)
eventually(is_moved)
with pyjob.ProcessHandle(member) as pinned, pyjob.ProcessHandle(process) as stranger:
    if how == "opener":
        with pyjob.Job.open(name) as job:
            pids, handles = job.pids(), [one.pid for one in job.members()]
            assert member in pids and member in handles and process not in pids + handles
            assert pinned in job and stranger not in job
            job.send_signal(signal.SIGUSR1)
            assert is_moved() and stranger.is_alive() and pinned.is_alive()
            job.kill()
    elif outer:
        outer.kill()
    else:
        os.kill(pid, signal.SIGKILL)
    pinned.wait(20 if how in ("guard", "genuine") else 0)
    if how == "opener":
        assert owner.stdout.readline() == "refused\\n"

    def is_back():
        return group(process) == group(1)

    eventually(is_back)
    assert stranger.is_alive()
owner.stdin.close()
owner.wait()
if outer:
    outer.close()


def is_swept():
    return not [one for one in os.listdir(home) if one.startswith(f"pyjob-{namespace}-{pid}-")]


eventually(is_swept)
end(process)
print("spared")
"""
INIT = """
"$@"
for i in $(seq 500); do ls -d "$0/pyjob-$(stat -Lc %i /proc/self/ns/pid)-"* >/dev/null 2>&1 || break; sleep 0.01; done
"""  # a guard ends with its PID namespace, at once


@pytest.mark.parametrize("how", ["opener", "guard", "outer", "genuine"])
def test_a_stranger_in_the_stage(folder: Path, how: str) -> None:
    why = Backend.find("cgroup")[1]
    if why:
        pytest.skip(why)
    common = COMMON.format(path=sys.path)
    (folder / "owner.py").write_text(common + OWNER)
    (folder / "scene.py").write_text(common + SCENE)
    scene = [sys.executable, str(folder / "scene.py"), how, str(folder / "trace"), str(folder / "owner.py")]
    scene.append(str(own_cgroup()))
    argv = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", "sh", "-c", INIT, str(own_cgroup()), *scene]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=100)
    assert result.stdout == "spared\n", result.stdout + result.stderr
