"""Real programs: a parallel build, a shell pipeline, a server that daemonizes; each with a bystander of the same
name."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from helpers.procs import DEADLINE, eventually, processes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Debian's programs")


def comms(pids):
    return sorted(one.comm for one in processes() if one.pid in pids)


@pytest.fixture
def project(folder):
    """C files that take the compiler so long that the kill finds it at work."""
    heavy = "\n".join(f"static int f{i}(int x) {{ return x * {i} + x % {i + 1}; }}" for i in range(3000))
    heavy += "\nint run(int x) { int s = 0;\n" + "".join(f"s += f{i}(x);\n" for i in range(3000)) + "return s; }\n"
    for number in range(40):
        (folder / f"part{number}.c").write_text(heavy.replace("run(", f"run{number}("))
    (folder / "Makefile").write_text(
        "OBJECTS := $(patsubst %.c,%.o,$(wildcard *.c))\nall: $(OBJECTS)\n%.o: %.c\n\tgcc -O2 -c -o $@ $<\n"
    )
    return folder


@pytest.mark.tool("make", "gcc")
def test_a_parallel_build(backend, project, bystanders):
    """make -j4 with gcc, cc1, as under it: all end in the middle of the work; another make lives on."""
    quiet = project / "quiet"
    quiet.mkdir()
    (quiet / "Makefile").write_text("all:\n\tsleep 300\n")
    other = bystanders(["make", "-s", "-C", str(quiet)], start_new_session=True)
    with backend.job() as job:
        program = job.popen(["make", "-j4", "-C", str(project)], stdout=subprocess.DEVNULL)
        eventually(lambda: "cc1" in comms(job.pids()), DEADLINE, lambda: comms(job.pids()))
        job.kill()
        assert program.wait(DEADLINE) == -signal.SIGKILL
        assert job.pids() == []
    assert not [one for one in processes() if one.comm == "cc1" and str(project) in " ".join(one.argv())]
    other.assert_alive()
    _end_group(other, bystanders)


def _end_group(bystander, bystanders):
    os.killpg(bystander.pid, signal.SIGKILL)
    bystander.process.wait()
    bystanders.forget(bystander)


@pytest.mark.tool("make", "gcc")
def test_a_build_to_its_end(backend, folder):
    for number in range(6):
        (folder / f"part{number}.c").write_text(f"int part{number}(void) {{ return {number}; }}\n")
    (folder / "Makefile").write_text(
        "OBJECTS := $(patsubst %.c,%.o,$(wildcard *.c))\n"
        "lib.a: $(OBJECTS)\n\tar rc $@ $^\n%.o: %.c\n\tgcc -c -o $@ $<\n"
    )
    result = backend.run(["make", "-s", "-j4", "-C", str(folder)], capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    assert (folder / "lib.a").exists()


def test_a_shell_pipeline(backend, bystanders):
    """CPython 127874: the shell dies, its pipeline goes on."""
    other = bystanders(["sh", "-c", "while :; do sleep 1; done"], start_new_session=True)
    with backend.job() as job:
        program = job.popen("yes | cat | (sleep 300; cat) | cat >/dev/null; true", shell=True)
        eventually(lambda: comms(job.pids()).count("cat") >= 2 and "yes" in comms(job.pids()))
        assert len(job.pids()) >= 5
        job.kill()
        assert job.pids() == []
        assert program.wait(DEADLINE) == -signal.SIGKILL
    other.assert_alive()
    _end_group(other, bystanders)


def _which(program):
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def nginx(folder, name):
    """nginx as it comes from Debian: daemonizes, with a master and two workers."""
    home = folder / name
    home.mkdir()
    config = home / "nginx.conf"
    paths = "\n".join(
        f"{kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Unset `user`: as root the workers would belong to nobody, who may not enter the folder, and need not.
    config.write_text(f"""
worker_processes 2;
pid {home}/pid;
error_log {home}/error.log;
events {{ worker_connections 16; }}
http {{
{paths}
access_log off;
server {{ listen unix:{home}/socket; location / {{ return 200 "hello"; }} }}
}}
""")
    return [_which("nginx"), "-c", str(config), "-p", str(home), "-e", str(home / "error.log")], home


def answers(home):
    import socket

    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        try:
            client.connect(str(home / "socket"))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"hello" in client.recv(1000)
        except OSError:
            return False


def read_pid(path):
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


@pytest.mark.needs("escape_proof")
@pytest.mark.tool("nginx")
def test_a_server_that_daemonizes(backend, folder):
    argv, home = nginx(folder, "ours")
    other_argv, other_home = nginx(folder, "other")
    other = subprocess.Popen([*other_argv, "-g", "daemon off;"], stdin=subprocess.DEVNULL)
    try:
        with backend.job() as job:
            program = job.popen(argv)
            assert program.wait(DEADLINE) == 0, (home / "error.log").read_text()
            eventually(lambda: answers(home))
            eventually(lambda: answers(other_home))
            master = read_pid(home / "pid")
            assert master in job, "the daemon is a member"
            eventually(lambda: len(job.pids()) == 3, message=lambda: str(job.pids()))
            assert comms(job.pids()) == ["nginx"] * 3
            job.kill()
            assert job.pids() == []
            assert not answers(home)
        assert answers(other_home), "the other nginx lives on"
    finally:
        other.terminate()
        other.wait(DEADLINE)


@pytest.mark.needs("escape_proof")
@pytest.mark.tool("nginx")
def test_a_daemon_is_asked_and_leaves_in_peace(backend, folder):
    argv, home = nginx(folder, "ours")
    with backend.job() as job:
        program = job.popen(argv)
        assert program.wait(DEADLINE) == 0
        eventually(lambda: answers(home))
        job.stop(grace=60)
        assert job.pids() == []
    assert not (home / "pid").exists(), "the server removed its pid file itself: it was asked, not killed"


@pytest.mark.tool("bash", "gzip")
def test_late_writers_keep_their_output(backend, folder):
    """`tee >(gzip)` writes on after the shell's exit; run() must not cut it off before its pipes are at their end."""
    out = folder / "out.gz"
    result = backend.run(
        ["bash", "-c", f"seq 200000 | tee >(gzip -1 > {out}; echo done >&2) | tail -1"],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert (result.stdout, result.stderr) == ("200000\n", "done\n")
    text = subprocess.run(["gzip", "-dc", str(out)], capture_output=True, text=True, check=True).stdout
    assert text.splitlines()[-1] == "200000"


def test_a_process_pool(backend, owners):
    """CPython 111873: the workers of a killed owner's pool."""
    if not backend.has("dies_with_owner"):
        pytest.skip("not promised")
    script = """
import concurrent.futures, os, sys, time
def work(path):
    open(path, "w").write(str(os.getpid()))
    time.sleep(300)
if __name__ == "__main__":
    import multiprocessing
    pool = concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(sys.argv[1]))
    for path in sys.argv[2:]:
        pool.submit(work, path)
    time.sleep(300)
"""
    for method in ("fork", "spawn", "forkserver"):
        body = """
        from pathlib import Path
        script = folder / "pool.py"
        script.write_text(argument["script"])
        paths = [str(folder / "one"), str(folder / "two")]
        program = pyjob.Popen([sys.executable, str(script), argument["method"], *paths], backend=backend)
        end = time.monotonic() + 60
        while not all(os.path.exists(path) and open(path).read() for path in paths):
            assert time.monotonic() < end
            time.sleep(0.01)
        report(workers=[int(open(path).read()) for path in paths], pids=program.job.pids())
        """
        owner = owners(body, end="SIGKILL", backend=str(backend), argument={"script": script, "method": method})
        got = owner.ready(60)
        assert set(got["workers"]) < set(got["pids"])
        before = {one.key for one in processes() if one.pid in got["pids"]}
        owner.end()
        owner.wait()
        eventually(lambda b=before: not [one for one in processes() if one.key in b and one.state not in "ZX"])
