"""preexec_fn: the one argument for which this Python is forked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.procs import DEADLINE, alive

resource = pytest.importorskip("resource")  # these are for POSIX; tests/conformance/test_run_anywhere.py is not

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="POSIX"), pytest.mark.main_interpreter]


def output(program: Any) -> str:
    with program:
        text: bytes = program.stdout.read()
        assert program.wait(DEADLINE) == 0
    return text.decode().strip()


def test_it_runs_in_the_child(backend: Any, folder: Path) -> None:
    def note() -> None:
        (folder / "pid").write_text(str(os.getpid()))

    with backend.popen(["sh", "-c", "echo $$"], stdout=subprocess.PIPE, preexec_fn=note) as program:
        assert int(program.stdout.read()) == program.pid
    assert int((folder / "pid").read_text()) == program.pid


def test_what_it_changes_the_program_has(backend: Any) -> None:
    def change() -> None:
        os.umask(0o31)
        os.chdir("/")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.putenv("PYJOB_TEST_FRUIT", "apple")

    code = "umask; pwd; ulimit -c; echo $PYJOB_TEST_FRUIT"
    program = backend.popen(["sh", "-c", code], stdout=subprocess.PIPE, preexec_fn=change)
    assert output(program).split() == ["0031", "/", "0", "apple"]


def test_it_comes_after_the_other_arguments(backend: Any, folder: Path) -> None:
    """As stock: directory, umask, session and pipes are there when it runs."""

    def look() -> None:
        os.write(1, f"{os.getcwd()} {os.getsid(0) == os.getpid()} {os.umask(0o22):o}\n".encode())

    program = backend.popen(
        ["true"], stdout=subprocess.PIPE, preexec_fn=look, cwd=folder, start_new_session=True, umask=0o35
    )
    assert output(program) == f"{folder} True 35"


@pytest.mark.parametrize("how", ["setsid", "setpgrp"])
def test_the_old_idiom_of_killpg(backend: Any, how: str) -> None:
    with backend.popen(["sh", "-c", "sleep 1000 & wait"], preexec_fn=getattr(os, how)) as program:
        assert os.getpgid(program.pid) == program.pid
        os.killpg(os.getpgid(program.pid), signal.SIGKILL)
        assert program.wait(DEADLINE) == -9


def test_the_program_is_a_member(backend: Any) -> None:
    with backend.job() as job:
        program = job.popen(["sh", "-c", "sleep 1000 & wait"], preexec_fn=lambda: None)
        assert program.pid in job
        assert program.pid in program.job.pids()
        program.kill()
        assert program.wait(DEADLINE) == -9
        assert job.pids() == []


@pytest.mark.needs("escape_proof")  # a process group is entered last, so that preexec_fn can call setsid()
def test_what_it_forks_is_a_member(backend: Any) -> None:
    def fork() -> None:
        if os.fork() == 0:
            os.execlp("sleep", "sleep", "1000")

    with backend.job() as job:
        program = job.popen(["true"], preexec_fn=fork)
        assert program.wait(DEADLINE) == 0
        (left,) = job.pids()
        job.kill()
        assert not alive(left)


def test_an_exception_in_it(backend: Any) -> None:
    with pytest.raises(subprocess.SubprocessError) as ours:
        backend.popen(["true"], preexec_fn=lambda: 1 / 0)
    with pytest.raises(subprocess.SubprocessError) as stock:
        subprocess.Popen(["true"], preexec_fn=lambda: 1 / 0)
    assert str(ours.value) == str(stock.value)


@pytest.mark.parametrize("arguments", [{"args": ["/nowhere/at/all"]}, {"args": ["true"], "cwd": "/nowhere/at/all"}])
def test_a_failed_start(backend: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(FileNotFoundError) as ours:
        backend.popen(**arguments, preexec_fn=lambda: None)
    with pytest.raises(FileNotFoundError) as stock:
        subprocess.Popen(**arguments, preexec_fn=lambda: None)
    assert str(ours.value) == str(stock.value)
    assert ours.value.filename == stock.value.filename


@pytest.mark.root
def test_it_gives_up_root(backend: Any) -> None:
    def demote() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

    program = backend.popen(["id", "-u"], stdout=subprocess.PIPE, preexec_fn=demote)
    assert output(program) == "65534"


@pytest.mark.root
def test_together_with_user(backend: Any) -> None:
    program = backend.popen(["id", "-u"], stdout=subprocess.PIPE, preexec_fn=lambda: None, user=65534, group=65534)
    assert output(program) == "65534"


def test_at_fork_handlers_run(backend: Any, folder: Path) -> None:
    """The child is forked as os.fork() forks, so that locks are in order there."""
    ran: list[str] = []
    os.register_at_fork(before=lambda: ran.append("before"))
    with backend.popen(["true"], preexec_fn=lambda: None) as program:
        assert program.wait(DEADLINE) == 0
    assert "before" in ran
