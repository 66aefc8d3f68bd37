"""Pain 3. CPython 127049, psutil 2400: a signal to a recycled PID."""

import os
import sys

import pytest

import pyjob
from helpers.procs import DEADLINE

TRUE = [sys.executable, "-S", "-c", ""]


@pytest.mark.skipif(os.name == "nt", reason="waitid")
def test_after_the_collection_no_signal_leaves(backend, monkeypatch):
    program = backend.popen(TRUE)
    program.wait(DEADLINE)
    sent = []
    monkeypatch.setattr(os, "kill", lambda *what: sent.append(what))
    program.send_signal(15)
    program.terminate()
    program.kill()
    assert sent == []
    program.job.close()


def test_the_pid_is_ours_until_collected(backend):
    """It has ended, and nobody else can have its number before we ask."""
    with backend.job() as job:
        program = job.popen(TRUE)
        job.wait(DEADLINE)
        assert program.pid not in job
        program.send_signal(15)
        assert program.wait(DEADLINE) == 0


def test_a_handle_is_an_identity():
    import subprocess

    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    with pyjob.ProcessHandle(process.pid) as handle:
        assert handle.is_alive()
        process.kill()
        process.wait()
        assert not handle.is_alive()
        with pytest.raises(ProcessLookupError if os.name == "posix" else OSError):
            handle.send_signal(15)
        assert handle.pid == process.pid


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a PID namespace of our own")
@pytest.mark.tool("unshare")
def test_forced_reuse(backend, folder):
    """In a PID namespace the number of a dead member is given to an innocent: kill(), signals and handles spare it."""
    import subprocess

    if backend == "cgroup" and not os.access("/proc/self/cgroup", os.R_OK):
        pytest.skip("no cgroup")
    script = f"""
import os, signal, subprocess, sys, time
sys.path[:0] = {sys.path!r}
import pyjob
sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(100)"]
def reuse(pid):
    for _ in range(200):
        with open("/proc/sys/kernel/ns_last_pid", "w") as last:
            last.write(str(pid - 1))
        innocent = subprocess.Popen(["sleep", "100"])
        if innocent.pid == pid:
            return innocent
        innocent.kill(); innocent.wait()
    raise SystemExit("the kernel gave us no reuse")
job = pyjob.Job(backend={str(backend)!r})
program = job.popen(sleeper)
victim = subprocess.Popen(sleeper)
handle = pyjob.ProcessHandle(victim.pid)
victim.kill(); victim.wait()
innocent = reuse(victim.pid)
assert not handle.is_alive()
try:
    handle.kill()
except ProcessLookupError:
    pass
assert innocent.pid not in job
os.kill(program.pid, 9)
program.wait(30)
second = reuse(program.pid)
assert program.pid not in job
program.send_signal(15); program.kill()
program.job.kill(); job.send_signal(9); job.kill(); job.close()
time.sleep(0.1)
assert innocent.poll() is None and second.poll() is None, "an innocent was killed"
for one in (innocent, second):
    one.kill(); one.wait()
print("spared")
"""
    prefix = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
    if os.geteuid() != 0:
        prefix.insert(1, "--map-root-user")
    (folder / "script.py").write_text(script)
    result = subprocess.run(
        [*prefix, sys.executable, str(folder / "script.py")], capture_output=True, text=True, timeout=100
    )
    if "unshare: " in result.stderr or "no reuse" in result.stderr:
        pytest.skip(f"no PID namespace here: {result.stderr.strip()}")
    assert result.stdout == "spared\n", result.stdout + result.stderr
