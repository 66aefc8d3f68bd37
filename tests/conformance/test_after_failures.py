"""After a failed start there is no process, zombie, descriptor, guard or cgroup more than before, and the job is
usable."""

import errno
import os
import subprocess
import sys

import pytest

from helpers.procs import DEADLINE

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
TRUE = [sys.executable, "-S", "-c", ""]


def usable(job):
    assert job.pids() == []
    with job.popen(TRUE) as program:
        assert program.wait(DEADLINE) == 0


def test_no_such_program(backend, folder):
    missing = str(folder / "missing")
    with backend.job() as job:
        for _ in range(5):
            with pytest.raises(FileNotFoundError) as caught:
                job.popen([missing])
            if os.name == "posix":
                assert caught.value.filename == missing
                assert caught.value.errno == errno.ENOENT
        usable(job)


def test_no_such_folder(backend, folder):
    missing = str(folder / "missing")
    with backend.job() as job:
        with pytest.raises((FileNotFoundError, NotADirectoryError)) as caught:
            job.popen(TRUE, cwd=missing)
        if os.name == "posix":
            assert caught.value.filename == missing
        usable(job)


@posix
def test_not_executable(backend, folder):
    script = folder / "script"
    script.write_text("#!/bin/sh\n")
    with backend.job() as job:
        with pytest.raises(PermissionError):
            job.popen([str(script)])
        script.write_bytes(b"\x7fELF nonsense")
        script.chmod(0o755)
        with pytest.raises(OSError) as caught:
            job.popen([str(script)])
        assert caught.value.errno == errno.ENOEXEC
        usable(job)


@posix
@pytest.mark.unprivileged
def test_a_folder_that_may_not_be_entered(backend, folder):
    closed = folder / "closed"
    closed.mkdir(mode=0)
    with backend.job() as job:
        with pytest.raises(PermissionError) as caught:
            job.popen(TRUE, cwd=closed)
        assert caught.value.filename == str(closed) or caught.value.filename == closed
        usable(job)


@posix
def test_too_many_arguments(backend):
    with backend.job() as job:
        with pytest.raises(OSError) as caught:
            job.popen(["/bin/true", "x" * 3_000_000])
        assert caught.value.errno == errno.E2BIG
        usable(job)


@pytest.mark.usefixtures("stock_forks")
def test_what_stock_refuses(backend, folder):
    """The same exceptions as subprocess, before anything was started."""
    bad = [
        ([[]], {}, True),
        ([["a\0b"]], {}, True),
        ([TRUE], {"env": {"a=b\0": "c"}}, True),
        ([TRUE], {"cwd": "a\0b"}, True),
        ([TRUE], {"stdin": object()}, True),
        ([TRUE], {"bufsize": "1"}, True),
        ([[1]], {}, True),
        ([TRUE], {"text": True, "universal_newlines": False}, True),
        ([TRUE], {"user": "no-such-user-here"}, os.name == "posix"),
        ([TRUE], {"user": -1}, os.name == "posix"),
        ([TRUE], {"umask": "077"}, os.name == "posix"),
    ]
    with backend.job() as job:
        for args, options, applies in bad:
            if not applies:
                continue
            with pytest.raises(Exception) as stock:
                subprocess.Popen(*args, **options)
            with pytest.raises(type(stock.value)) as ours:
                job.popen(*args, **options)
            assert str(ours.value) == str(stock.value), (args, options)
        usable(job)


@posix
def test_out_of_descriptors(backend, owners):
    """EMFILE at every step: with each number of free descriptors a start either works or leaves nothing."""
    body = """
    import errno, resource
    def descriptors():
        return sorted(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))
    job = pyjob.Job(backend=backend)
    true = [sys.executable, "-S", "-c", ""]
    with job.popen(true, stdout=-1) as program:
        program.wait(30)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    outcomes = []
    for free in range(16):
        before = descriptors()
        spare = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(3)]
        top = max(map(int, before)) + 1
        for one in spare:
            os.close(one)
        # The holes below the limit are filled, so that exactly `free` are left.
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        held = []
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            pass
        for one in held[:free]:
            os.close(one)
        del held[:free]
        try:
            with job.popen(true, stdout=-1) as program:
                outcomes.append(program.wait(30))
        except OSError as error:
            outcomes.append(errno.errorcode.get(error.errno, str(error)))
        except BaseException as error:
            outcomes.append(repr(error))
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        for _ in range(500):
            if len(descriptors()) <= len(before) and job.pids() == []:
                break
            time.sleep(0.01)
        else:
            outcomes.append(f"with {free} free: {len(before)} descriptors, then {len(descriptors())}; {job.pids()}")
    report(outcomes=outcomes)
    with job.popen(true) as program:
        report(after=program.wait(30))
    job.close()
    try:
        os.waitpid(-1, os.WNOHANG)
        report(zombie=True)
    except ChildProcessError:
        report(zombie=False)
    """
    owner = owners(body, end="return", backend=str(backend))
    got = owner.ready(60)
    assert set(got["outcomes"]) <= {0, "EMFILE"}, got["outcomes"]
    assert got["outcomes"][0] == "EMFILE" and got["outcomes"][-1] == 0, got["outcomes"]
    assert got["after"] == 0 and not got["zombie"]
    owner.end()
    assert owner.wait() == 0, owner.output


@posix
@pytest.mark.unprivileged
def test_out_of_processes(backend, owners):
    body = """
    import errno, resource
    job = pyjob.Job(backend=backend)
    true = [sys.executable, "-S", "-c", ""]
    with job.popen(true) as program:
        program.wait(30)
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
    outcomes = []
    for _ in range(5):
        try:
            with job.popen(true) as program:
                outcomes.append(program.wait(30))
        except OSError as error:
            outcomes.append(errno.errorcode.get(error.errno, str(error)))
    resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
    report(outcomes=outcomes, pids=job.pids())
    with job.popen(true) as program:
        report(after=program.wait(30))
    job.close()
    """
    owner = owners(body, end="return", backend=str(backend))
    got = owner.ready()
    assert got["outcomes"] == ["EAGAIN"] * 5
    assert got["pids"] == [] and got["after"] == 0
    owner.end()
    assert owner.wait() == 0, owner.output


def test_many_failures_leave_nothing(backend, folder):
    with backend.job() as job:
        for _ in range(50):
            with pytest.raises(FileNotFoundError):
                job.popen([str(folder / "missing")])
        usable(job)


def test_many_jobs_leave_nothing(backend):
    for _ in range(30):
        with backend.job() as job:
            job.pids()


def test_many_programs_at_once(backend):
    """200; but under Wine, where that many once kept everybody waiting for 15 minutes, 40."""
    sleep, count = (["ping", "-n", "300", "127.0.0.1"], 40) if os.name == "nt" else (["sleep", "300"], 200)
    jobs = [backend.job() for _ in range(count)]
    programs = [job.popen(sleep, stdout=subprocess.DEVNULL) for job in jobs]
    for job, program in zip(jobs, programs, strict=True):
        assert job.pids() == [program.pid]
    for job, program in zip(jobs, programs, strict=True):
        job.close()
        program.wait(DEADLINE)
