"""Whatever stock refuses is refused alike: type, errno, filename, message. And what only we can refuse."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pyjob

resource = pytest.importorskip("resource")  # these are for POSIX; tests/conformance/test_run_anywhere.py is not

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX")


class Odd:
    def __fspath__(self) -> Any:
        return 5


REFUSED: dict[str, dict[str, Any]] = {
    "no such program": {"args": ["/nowhere/at/all"]},
    "no such program on PATH": {"args": ["nowhere-at-all"]},
    "no such program, bytes": {"args": [b"/nowhere/at/all"]},
    "no such program, Path": {"args": Path("/nowhere/at/all")},
    "no such executable": {"args": ["true"], "executable": "/nowhere/at/all"},
    "empty name": {"args": [""]},
    "a directory": {"args": ["/"]},
    "not executable": {"args": ["/etc/passwd"]},
    "no such directory": {"args": ["true"], "cwd": "/nowhere/at/all"},
    "directory is a file": {"args": ["true"], "cwd": "/etc/passwd"},
    "directory, bytes": {"args": ["true"], "cwd": b"/nowhere/at/all"},
    "both wrong": {"args": ["/nowhere"], "cwd": "/nowhere/at/all"},
    "nothing": {"args": []},
    "nul in argument": {"args": ["true", "a\0b"]},
    "nul in program": {"args": ["tr\0ue"]},
    "nul in bytes": {"args": [b"true", b"a\0b"]},
    "nul in directory": {"args": ["true"], "cwd": "/\0"},
    "nul in variable": {"args": ["true"], "env": {"A": "a\0b"}},
    "nul in variable's name": {"args": ["true"], "env": {"A\0B": "a"}},
    "equals in variable's name": {"args": ["true"], "env": {"A=B": "a"}},
    "variable is a number": {"args": ["true"], "env": {"A": 5}},
    "variable's name is a number": {"args": ["true"], "env": {5: "a"}},
    "environment is a list": {"args": ["true"], "env": [("A", "a")]},
    "argument is a number": {"args": ["true", 5]},
    "argument is None": {"args": ["true", None]},
    "arguments are a number": {"args": 5},
    "arguments are None": {"args": None},
    "odd path": {"args": ["true", Odd()]},
    "path with shell": {"args": Path("true"), "shell": True},
    "directory is a number": {"args": ["true"], "cwd": 5},
    "executable is a number": {"args": ["true"], "executable": 5},
    "bufsize": {"args": ["true"], "bufsize": "5"},
    "pipesize": {"args": ["true"], "pipesize": "5"},
    "text and not text": {"args": ["true"], "text": True, "universal_newlines": False},
    "stdin": {"args": ["true"], "stdin": "x"},
    "stdout": {"args": ["true"], "stdout": "x"},
    "stdout is stdout": {"args": ["true"], "stdout": subprocess.STDOUT},
    "bad descriptor": {"args": ["true"], "stdin": 987},
    "negative passed": {"args": ["true"], "pass_fds": [-1]},
    "huge passed": {"args": ["true"], "pass_fds": [2**40]},
    "passed text": {"args": ["true"], "pass_fds": ["x"]},
    "passed list of lists": {"args": ["true"], "pass_fds": [[]]},
    "passed but closed": {"args": ["true"], "pass_fds": [987]},
    "unknown user": {"args": ["true"], "user": "nobody-of-this-name"},
    "negative user": {"args": ["true"], "user": -1},
    "huge user": {"args": ["true"], "user": 2**64},
    "largest user": {"args": ["true"], "user": 2**32},
    "user is a float": {"args": ["true"], "user": 1.5},
    "unknown group": {"args": ["true"], "group": "nobody-of-this-name"},
    "negative group": {"args": ["true"], "group": -1},
    "huge group": {"args": ["true"], "group": 2**64},
    "unknown extra group": {"args": ["true"], "extra_groups": ["nobody-of-this-name"]},
    "huge extra group": {"args": ["true"], "extra_groups": [2**64]},
    "extra groups text": {"args": ["true"], "extra_groups": "root"},
    "too many extra groups": {"args": ["true"], "extra_groups": range(1, 70000)},
    "session text": {"args": ["true"], "start_new_session": "x"},
    "signals text": {"args": ["true"], "restore_signals": "x"},
    "umask": {"args": ["true"], "umask": "x"},
    "process group text": {"args": ["true"], "process_group": "x"},
    "process group of nobody": {"args": ["true"], "process_group": 2**30},
    "startupinfo": {"args": ["true"], "startupinfo": object()},
    "creationflags": {"args": ["true"], "creationflags": 5},
    "encoding": {"args": ["true"], "stdout": subprocess.PIPE, "encoding": "no-such-encoding"},
}
if sys.version_info < (3, 13):  # then it depends on stock's way to start
    REFUSED["passed None"] = {"args": ["true"], "pass_fds": None}


def refusal(start: Any, arguments: dict[str, Any]) -> BaseException | None:
    try:
        with start(**arguments):
            return None
    except Exception as error:
        return error


@pytest.mark.usefixtures("stock_forks")
@pytest.mark.parametrize("name", REFUSED)
def test_refused_as_stock(backend: Any, name: str) -> None:
    arguments = REFUSED[name]
    if "process_group" in arguments and sys.version_info < (3, 11):
        pytest.skip("stock has no process_group")
    stock = refusal(subprocess.Popen, arguments)
    ours = refusal(backend.popen, arguments)
    assert type(ours) is type(stock), ours
    assert str(ours) == str(stock)
    for attribute in ("errno", "filename", "filename2", "strerror"):
        assert getattr(ours, attribute, None) == getattr(stock, attribute, None), attribute


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@pytest.mark.usefixtures("stock_forks")
@pytest.mark.parametrize("preexec_fn", [None, pytest.param(os.getpid, marks=pytest.mark.main_interpreter)])
@pytest.mark.parametrize("name", ["pass_fds", "stdin", "stdout", "stderr"])
def test_no_descriptor_of_ours_stands_in_for_a_closed_one(backend: Any, name: str, preexec_fn: Any) -> None:
    """Also not for the lowest numbers, which what a start opens would get. (For these stock may pass its own pipe.)"""

    def arguments(number: int) -> dict[str, Any]:
        value = [number] if name == "pass_fds" else number
        return {"args": ["true"], "cwd": "/", "preexec_fn": preexec_fn, name: value}

    stock = refusal(subprocess.Popen, arguments(987))
    assert isinstance(stock, OSError) and stock.errno == errno.EBADF
    low = [number for number in range(3, 987) if not is_open(number)][:8]
    for number in [*low, 987]:
        ours = refusal(backend.popen, arguments(number))
        assert type(ours) is type(stock) and ours.args == stock.args, number
        assert getattr(ours, "filename", None) == stock.filename


FIRST_START = """
import errno, os, sys, pyjob
for number in range(3, 10):
    try:
        os.fstat(number)
        continue
    except OSError:
        child = os.fork()
    if not child:
        try:
            pyjob.Popen(["true"], pass_fds=[number], backend=sys.argv[1]).wait()
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.EBADF, number
"""


def test_nor_one_that_only_the_first_start_opens(backend: Any) -> None:
    subprocess.run([sys.executable, "-c", FIRST_START, str(backend)], check=True)


@pytest.mark.parametrize("number", [-1, 65, 1000])
def test_signals_are_refused_as_stock(backend: Any, number: int) -> None:
    told = []
    for start in (subprocess.Popen, backend.popen):
        with start(["sleep", "300"]) as program:
            with pytest.raises(OSError) as caught:
                program.send_signal(number)
            told.append((str(caught.value), caught.value.args))
            program.kill()
    assert told[0] == told[1]


@pytest.mark.main_interpreter
@pytest.mark.parametrize("number", [-2, -1])
@pytest.mark.skipif(sys.version_info < (3, 11), reason="stock has no process_group")
def test_a_negative_process_group_with_preexec_fn(backend: Any, number: int) -> None:
    with backend.popen(["true"], process_group=number, preexec_fn=os.getpid) as program:
        assert program.wait(30) == 0


def test_a_start_that_was_refused_in_the_child_has_ended(backend: Any) -> None:
    kept = []

    class Kept(pyjob.Popen):
        def _execute_child(self, *args: Any, **kwargs: Any) -> None:
            kept.append(self)
            super()._execute_child(*args, **kwargs)

    with pytest.raises(FileNotFoundError):
        Kept(["/nowhere/at/all"], backend=str(backend))
    assert kept[0].returncode == kept[0].poll() == 255


@pytest.mark.root
@pytest.mark.parametrize("arguments", [{"user": 12345}, {"group": 12345}, {"extra_groups": [12345]}])
@pytest.mark.parametrize("cwd", [None, "/"])
def test_refused_in_the_child(backend: Any, arguments: dict[str, Any], cwd: str | None, folder: Path) -> None:
    """Without the capability to change them; which step is blamed depends on CPython's version."""
    code = (
        "import sys, subprocess, pyjob, functools\n"
        "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "def why(start):\n"
        f"    try: start(['true'], cwd={cwd!r}, **{arguments!r})\n"
        "    except Exception as error: return type(error), error.args, getattr(error, 'filename', None)\n"
        "ours, stock = why(functools.partial(pyjob.Popen, backend='process-group')), why(subprocess.Popen)\n"
        "assert ours == stock and ours, (ours, stock)\n"
    )
    if str(backend) != "process-group":
        pytest.skip("who is no longer root may have neither cgroup nor a guard that it can execute")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_warnings_as_stock(backend: Any) -> None:
    with (
        pytest.warns(RuntimeWarning, match="pass_fds overriding close_fds"),
        backend.popen(["true"], pass_fds=[2], close_fds=False),
    ):
        pass


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"backend": "cgruop"}, ValueError),
        ({"backend": 5}, TypeError),
        ({"require": "escape_proof"}, TypeError),
        ({"require": ["escape_prof"]}, ValueError),
        ({"require": [5]}, TypeError),
        ({"require": ["dies_with_owner"], "kill_on_close": False}, ValueError),
        ({"job": "job"}, TypeError),
        ({"job": 5}, TypeError),
    ],
)
def test_our_own_arguments(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        pyjob.Popen(["true"], **arguments)
    with pytest.raises(error):
        pyjob.run(["true"], **arguments)


def test_a_job_on_another_backend(backend: Any) -> None:
    other = "process-group" if str(backend) != "process-group" else "reaper"
    with backend.job() as job, pytest.raises(ValueError, match=str(backend)):
        pyjob.Popen(["true"], job=job, backend=other)


def test_a_closed_job(backend: Any) -> None:
    with backend.job() as job:
        pass
    with pytest.raises(pyjob.JobClosedError):
        job.popen(["true"])


@pytest.mark.parametrize("value", ["x", True, float("nan")])
def test_linger(backend: Any, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        backend.run(["true"], linger=value)


def test_a_failed_start_closes_the_pipes_and_the_job(backend: Any) -> None:
    """`_nothing_left` looks for the rest: leaves, guards, zombies."""
    with backend.job() as job:
        before = os.listdir("/proc/self/fd")
        for _ in range(20):
            for arguments in ({"args": ["/nowhere"]}, {"args": ["true", "\0"]}, {"args": ["true"], "cwd": "/nowhere"}):
                with pytest.raises((OSError, ValueError)):
                    job.popen(**arguments, stdin=-1, stdout=-1, stderr=-1)
        assert len(os.listdir("/proc/self/fd")) == len(before)
        assert job.pids() == []


def test_out_of_descriptors(backend: Any) -> None:
    """At whichever step it happens: OSError with EMFILE, nothing left, and the next start works."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = max(map(int, os.listdir("/proc/self/fd")))
    taken = [os.dup(0)]
    while taken[-1] <= top:  # no holes below
        taken.append(os.dup(0))
    highest = taken[-1]
    failed = 0
    try:
        for spare in range(24):
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + spare, hard))
            try:
                program = backend.popen(["true"], stdin=-1, stdout=-1, stderr=-1)
            except OSError as error:
                failed += 1
                if error.errno != errno.EMFILE:
                    raise
            else:
                with program:
                    assert program.wait(30) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
    assert failed >= 3
    with backend.popen(["true"]) as program:
        assert program.wait(30) == 0


def test_audit(backend: Any) -> None:
    """The event that stock raises, with the same arguments, before anything is started."""
    code = (
        "import sys, os, pyjob\n"
        "seen = []\n"
        "def hook(name, args):\n"
        "    if name == 'subprocess.Popen':\n"
        "        seen.append(args)\n"
        "        if args[2] == '/':\n"
        "            raise RuntimeError('refused')\n"
        "sys.addaudithook(hook)\n"
        f"pyjob.run(['sh', '-c', 'true'], env={{'A': 'a'}}, backend={str(backend)!r})\n"
        "assert seen == [('sh', ['sh', '-c', 'true'], None, {'A': 'a'})], seen\n"
        "try:\n"
        f"    pyjob.Popen(['true'], cwd='/', backend={str(backend)!r})\n"
        "except RuntimeError:\n"
        "    sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 7
