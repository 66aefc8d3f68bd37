"""What Popen and run() promise on every platform, with programs that every platform has."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.procs import DEADLINE, Identity, alive, eventually

SLEEP = "import time; time.sleep(300)"


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def with_child(file: Path, then: str) -> list[str]:
    """A program that starts another, whose PID is in `file`, and that holds its parent's pipes."""
    return python(
        "import os, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-S', '-c', {SLEEP!r}])\n"
        "print('out', flush=True); print('err', file=sys.stderr, flush=True)\n"
        f"open({str(file)!r} + '.part', 'w').write(str(child.pid))\n"
        f"os.replace({str(file)!r} + '.part', {str(file)!r})\n" + then
    )


def child_in(file: Path) -> Identity:
    return Identity.of(int(eventually(lambda: file.exists() and file.read_text())))


def test_exit_status_and_output(backend: Any) -> None:
    done = backend.run(python("print('out'); raise SystemExit(3)"), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr, done.leftovers) == (3, "out\n", "", [])


def test_a_program_that_does_not_exist(backend: Any) -> None:
    with pytest.raises(OSError) as ours:  # FileNotFoundError, or PermissionError where $PATH has an unreadable folder
        backend.popen(["pyjob-no-such-program"])
    with pytest.raises(OSError) as stock:
        subprocess.Popen(["pyjob-no-such-program"])
    assert type(ours.value) is type(stock.value)
    assert str(ours.value) == str(stock.value)
    assert ours.value.args == stock.value.args


@pytest.mark.parametrize("linger", [None, 0.5])
def test_the_deadline_ends_the_tree_and_keeps_the_output(backend: Any, folder: Path, linger: float | None) -> None:
    begin = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        backend.run(with_child(folder / "p", SLEEP), capture_output=True, timeout=8, linger=linger)
    assert 7.9 <= time.monotonic() - begin < 13
    assert b"out" in caught.value.stdout
    assert b"err" in caught.value.stderr
    assert not alive(int((folder / "p").read_text()))


def test_linger_ends_the_reading_and_names_the_leftovers(backend: Any, folder: Path) -> None:
    begin = time.monotonic()
    done = backend.run(with_child(folder / "p", "sys.exit(4)"), capture_output=True, linger=1, timeout=60)
    assert time.monotonic() - begin < 30
    assert done.returncode == 4
    assert (done.stdout.strip(), done.stderr.strip()) == (b"out", b"err")
    pid = int((folder / "p").read_text())
    assert pid in done.leftovers
    assert not alive(pid)


def test_kill_ends_the_tree(backend: Any, folder: Path) -> None:
    with backend.popen(with_child(folder / "p", SLEEP), stdout=-1, stderr=-1) as program:
        child = child_in(folder / "p")
        program.kill()
        assert not child.alive()
        assert program.wait(DEADLINE) != 0
        program.kill()


def test_with_ends_what_was_left(backend: Any, folder: Path) -> None:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with backend.popen(with_child(folder / "p", "sys.exit(5)"), **quiet) as program:
        pass
    assert program.returncode == 5
    assert not alive(int((folder / "p").read_text()))


def test_input_larger_than_the_pipe(backend: Any) -> None:
    data = bytes(range(256)) * 4000
    code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
    for options in ({}, {"timeout": 60}, {"linger": 30}, {"timeout": 60, "linger": 30}):
        assert backend.run(python(code), input=data, stdout=-1, **options).stdout == data


def test_text_in_all_ways(backend: Any) -> None:
    code = "import sys; sys.stdout.write(sys.stdin.read().upper() + 'x\\ny\\n')"
    for options in ({}, {"timeout": 60}, {"linger": 30}):
        assert backend.run(python(code), input="ab\n", stdout=-1, text=True, **options).stdout == "AB\nx\ny\n"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="subprocess warns from Python 3.11 on")
@pytest.mark.parametrize("call", ["run", "check_output", "Popen"])
def test_the_encoding_warning_names_the_callers_line(folder: Path, call: str) -> None:
    """PEP 597: whoever fixes it must be led to the line to be fixed."""
    script = folder / "script.py"
    script.write_text(f"import sys, pyjob\npyjob.{call}([sys.executable, '-S', '-c', ''], text=True)\n")
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", script], stdin=subprocess.DEVNULL, capture_output=True
    )
    told = [line for line in done.stderr.decode().splitlines() if "EncodingWarning" in line]
    assert [line.split(" EncodingWarning")[0] for line in told] == [f"{script}:2:"]
