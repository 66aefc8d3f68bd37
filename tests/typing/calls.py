"""What a checker must find in calls of pyjob; checked by test_types.py, never run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

import pyjob


def popen(flag: bool, job: pyjob.Job) -> None:
    assert_type(pyjob.Popen(["x"]), pyjob.Popen[bytes])
    assert_type(pyjob.Popen("x", shell=True), pyjob.Popen[bytes])
    assert_type(pyjob.Popen(Path("x"), -1, None, subprocess.PIPE), pyjob.Popen[bytes])
    assert_type(pyjob.Popen([b"x", Path("y")], text=True), pyjob.Popen[str])
    assert_type(pyjob.Popen(["x"], encoding="utf-8"), pyjob.Popen[str])
    assert_type(pyjob.Popen(["x"], errors="replace"), pyjob.Popen[str])
    assert_type(pyjob.Popen(["x"], universal_newlines=True), pyjob.Popen[str])
    assert_type(pyjob.Popen(["x"], text=False, universal_newlines=None), pyjob.Popen[bytes])
    assert_type(pyjob.Popen(["x"], text=flag), pyjob.Popen[Any])
    assert_type(pyjob.Popen(["x"], text=True, job=job, require=["escape_proof"], kill_on_close=flag), pyjob.Popen[str])
    assert_type(pyjob.Popen(["x"], backend="reaper", process_group=0, pipesize=4096, umask=0o22), pyjob.Popen[bytes])


def as_subprocess(program: pyjob.Popen[str]) -> None:
    stock: subprocess.Popen[str] = program
    assert_type(stock.communicate(), tuple[str, str])
    assert_type(program.communicate("x", timeout=1), tuple[str, str])
    assert_type(program.wait(), int)
    assert_type(program.poll(), int | None)
    assert_type(program.pid, int)
    assert_type(program.job, pyjob.Job)
    assert_type(program.job.parent, pyjob.Job | None)
    with pyjob.Popen(["x"], text=True, stdout=subprocess.PIPE) as entered:
        assert_type(entered, pyjob.Popen[str])
    program.stop(grace=1)
    program.stop(1.5)


def run(flag: bool, job: pyjob.Job) -> None:
    assert_type(pyjob.run(["x"]), pyjob.CompletedProcess[bytes])
    assert_type(pyjob.run(["x"], input=b"x", capture_output=True).stdout, bytes)
    assert_type(pyjob.run(["x"], text=True, input="x"), pyjob.CompletedProcess[str])
    assert_type(pyjob.run("x", shell=True, encoding="utf-8", check=True, timeout=1).stderr, str)
    assert_type(pyjob.run(["x"], errors="ignore", linger=0.5, job=job), pyjob.CompletedProcess[str])
    assert_type(pyjob.run(["x"], universal_newlines=True), pyjob.CompletedProcess[str])
    assert_type(pyjob.run(["x"], text=flag), pyjob.CompletedProcess[Any])
    assert_type(pyjob.run(["x"]).leftovers, list[int])
    stock: subprocess.CompletedProcess[bytes] = pyjob.run(["x"])
    assert_type(stock.returncode, int)


def shorthands(flag: bool) -> None:
    assert_type(pyjob.check_output(["x"]), bytes)
    assert_type(pyjob.check_output(["x"], text=True), str)
    assert_type(pyjob.check_output(["x"], encoding="utf-8"), str)
    assert_type(pyjob.check_output(["x"], errors="strict"), str)
    assert_type(pyjob.check_output(["x"], universal_newlines=True, input="x"), str)
    assert_type(pyjob.check_output(["x"], text=flag), Any)
    assert_type(pyjob.call(["x"], timeout=1, cwd=Path()), int)
    assert_type(pyjob.check_call("x", shell=True, env={"A": "1"}), int)


def in_a_job(flag: bool) -> None:
    with pyjob.Job(require=("escape_proof", "dies_with_owner")) as job:
        assert_type(job, pyjob.Job)
        assert_type(job.popen(["x"]), pyjob.Popen[bytes])
        assert_type(job.popen(["x"], text=True, stdin=subprocess.PIPE), pyjob.Popen[str])
        assert_type(job.popen(["x"], encoding="utf-8"), pyjob.Popen[str])
        assert_type(job.popen(["x"], errors="replace", cwd="/"), pyjob.Popen[str])
        assert_type(job.popen(["x"], universal_newlines=True), pyjob.Popen[str])
        assert_type(job.popen(["x"], text=flag), pyjob.Popen[Any])
        assert_type(job.run(["x"], check=True), pyjob.CompletedProcess[bytes])
        assert_type(job.run(["x"], text=True, capture_output=True, timeout=1), pyjob.CompletedProcess[str])
        assert_type(job.run(["x"], text=flag), pyjob.CompletedProcess[Any])


def job(one: pyjob.Job, program: subprocess.Popen[bytes]) -> None:
    assert_type(pyjob.Job.open("name"), pyjob.Job)
    assert_type(one.pids(), list[int])
    assert_type(one.members(), Iterator[pyjob.ProcessHandle])
    assert_type(one.name, str | None)
    assert_type(one.backend, str)
    assert_type(one.closed, bool)
    assert_type(one.guarantees, pyjob.Guarantees)
    assert_type(one.guarantees.escape_proof, bool)
    assert_type(1 in one, bool)
    assert_type(program in one, bool)
    for of in (program, 1, pyjob.ProcessHandle(1)):
        one.assign(of)
    one.kill(None)
    one.wait(0)


def processes(program: pyjob.Popen[bytes]) -> None:
    handle = pyjob.ProcessHandle(1)
    assert_type(handle.pid, int)
    assert_type(handle.create_time, float)
    assert_type(handle.is_alive(), bool)
    assert_type(handle.wait(1), int | None)
    with handle as entered:
        assert_type(entered, pyjob.ProcessHandle)
    assert_type(pyjob.children(), list[int])
    assert_type(pyjob.children(program, recursive=True), list[int])
    assert_type(pyjob.kill_tree(handle, include_root=False, timeout=1), list[int])


def backends() -> None:
    for backend in pyjob.backends():
        assert_type(backend, pyjob.Backend)
        assert_type(backend.name, str)
        assert_type(backend.available, bool)
        assert_type(backend.guarantees, pyjob.Guarantees)
        assert_type(list(backend.guarantees), list[str])
        assert_type(backend.why + backend.help, str)


def errors() -> None:
    try:
        pyjob.kill_tree(1)
    except pyjob.SurvivorsError as error:
        assert_type(error.pids, list[int])
        stock: OSError = error
        assert_type(stock.args, tuple[Any, ...])
    except (pyjob.UnsupportedError, pyjob.JobClosedError) as error:
        base: pyjob.JobError = error
        raise base from None
