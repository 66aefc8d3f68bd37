"""Popen: what CPython's own test_subprocess cannot see."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import pyjob
from helpers.procs import DEADLINE, Identity, alive, eventually

pty = pytest.importorskip("pty")  # these are for POSIX; tests/conformance/test_run_anywhere.py is not
resource = pytest.importorskip("resource")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX programs")

SLEEP = ["sleep", "1000"]


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def leave_child(file: Path) -> list[str]:
    """A shell that leaves a child behind, whose PID is in `file`, and exits with 7."""
    return ["sh", "-c", f"sleep 1000 >/dev/null 2>&1 & echo $! >{file}.part; mv {file}.part {file}; exit 7"]


def pid_in(file: Path) -> int:
    return int(eventually(lambda: file.exists() and file.read_text(), message=str(file)))


# -- a drop-in --------------------------------------------------------------------------------------------------------


def test_is_a_subclass_with_the_same_signature(backend: Any) -> None:
    with backend.popen(["true"]) as program:
        assert isinstance(program, subprocess.Popen)
        assert program.args == ["true"]
    ours = inspect.signature(pyjob.Popen).parameters
    for name, stock in inspect.signature(subprocess.Popen).parameters.items():
        assert (ours[name].kind, ours[name].default) == (stock.kind, stock.default), name
    assert pyjob.Popen[str] is not None


def test_repr_is_stock(backend: Any) -> None:
    with backend.popen(["sh", "-c", "exit 3"]) as program:
        program.wait(DEADLINE)
    assert repr(program) == "<Popen: returncode: 3 args: ['sh', '-c', 'exit 3']>"


@pytest.mark.parametrize(("code", "expected"), [("exit 5", 5), ("kill -9 $$", -9), ("kill -15 $$", -15), ("true", 0)])
def test_exit_status(backend: Any, code: str, expected: int) -> None:
    with backend.popen(["sh", "-c", code]) as program:
        assert program.wait(DEADLINE) == expected
        assert program.poll() == expected
        assert program.returncode == expected


def test_poll_and_wait_time_out_as_stock(backend: Any) -> None:
    with backend.popen(SLEEP) as program:
        assert program.poll() is None
        for timeout in (0, 0.05, -1):
            with pytest.raises(subprocess.TimeoutExpired) as caught:
                program.wait(timeout)
            assert caught.value.cmd == SLEEP
            assert caught.value.timeout == timeout
        program.kill()
        assert program.wait(DEADLINE) == -9


def test_many_threads_wait_for_one(backend: Any) -> None:
    found: list[int] = []
    with backend.popen(["sh", "-c", "sleep 0.3; exit 4"]) as program:
        threads = [
            threading.Thread(target=lambda timeout=timeout: found.append(program.wait(timeout)))
            for timeout in (None, DEADLINE, None, DEADLINE)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join(DEADLINE)
    assert found == [4, 4, 4, 4]


def test_a_waiter_with_a_timeout_beside_one_without(backend: Any) -> None:
    with backend.popen(SLEEP) as program:
        waiter = threading.Thread(target=program.wait)
        waiter.start()
        time.sleep(0.05)
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(0.1)
        program.kill()
        waiter.join(DEADLINE)
        assert not waiter.is_alive()
        assert program.returncode == -9


# -- which path ran ---------------------------------------------------------------------------------------------------


@pytest.mark.main_interpreter
def test_the_start_is_native(backend: Any) -> None:
    expected = {"cgroup": {"clone3", "vfork"}, "reaper": {"guard"}, "process-group": {"vfork"}}[str(backend)]
    with backend.popen(["true"]) as program:
        assert program._path in expected
    with backend.popen(["true"], preexec_fn=lambda: None) as program:
        assert program._path == "fork"


def test_the_start_calls_nothing_of_posixsubprocess(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import _posixsubprocess

    def refuse(*args: Any) -> None:
        raise AssertionError("the slow path")

    monkeypatch.setattr(_posixsubprocess, "fork_exec", refuse)
    if hasattr(subprocess, "_fork_exec"):
        monkeypatch.setattr(subprocess, "_fork_exec", refuse)
    with backend.popen(["true"], umask=0o22, start_new_session=True) as program:
        assert program.wait(DEADLINE) == 0


# -- the tree ---------------------------------------------------------------------------------------------------------


def test_kill_ends_the_tree_and_no_sibling(backend: Any, folder: Path) -> None:
    with backend.job() as job:
        sibling = job.popen(SLEEP)
        one = job.popen(["sh", "-c", f"sleep 1000 & echo $! >{folder}/p; wait"])
        child = Identity.of(pid_in(folder / "p"))
        one.kill()
        assert not child.alive()
        assert one.wait(DEADLINE) == -9
        assert sibling.poll() is None
        assert job.pids() == [sibling.pid]
        assert one.job.parent is job
        assert sibling.job is not one.job


def test_kill_after_the_exit_ends_what_was_left(backend: Any, folder: Path) -> None:
    program = backend.popen(leave_child(folder / "p"))
    assert program.wait(DEADLINE) == 7
    child = Identity.of(pid_in(folder / "p"))
    assert child.alive()
    program.kill()
    assert not child.alive()
    program.kill()  # safe again and again
    assert program.returncode == 7


def test_kill_of_an_ended_program_is_safe(backend: Any) -> None:
    program = backend.popen(["true"])
    assert program.wait(DEADLINE) == 0
    program.kill()
    program.terminate()
    program.send_signal(signal.SIGTERM)
    program.stop()
    assert program.returncode == 0


def test_kill_while_another_thread_waits(backend: Any) -> None:
    program = backend.popen(SLEEP)
    found: list[int] = []
    waiter = threading.Thread(target=lambda: found.append(program.wait()))
    waiter.start()
    time.sleep(0.1)
    program.kill()
    waiter.join(DEADLINE)
    assert found == [-9]


def test_kill_while_another_thread_communicates(backend: Any) -> None:
    program = backend.popen(["sh", "-c", "echo first; sleep 1000"], stdout=subprocess.PIPE)
    found: list[Any] = []
    waiter = threading.Thread(target=lambda: found.append(program.communicate()))
    waiter.start()
    time.sleep(0.1)
    program.kill()
    waiter.join(DEADLINE)
    assert found == [(b"first\n", None)]
    assert program.returncode == -9


def test_terminate_and_send_signal_act_on_the_program_alone(backend: Any, folder: Path) -> None:
    code = f"trap 'exit 3' TERM; sleep 1000 >/dev/null 2>&1 & echo $! >{folder}/p; while :; do sleep 0.02; done"
    with backend.popen(["sh", "-c", code]) as program:
        child = Identity.of(pid_in(folder / "p"))
        program.terminate()
        assert program.wait(DEADLINE) == 3
        assert child.alive()
    assert not child.alive()


def test_stop_asks_the_tree(backend: Any, folder: Path) -> None:
    inner = f'trap "echo asked >{folder}/asked; exit" TERM; echo $$ >{folder}/p; while :; do sleep 0.02; done'
    code = f"sh -c '{inner}' & wait"
    with backend.popen(["sh", "-c", code]) as program:
        child = Identity.of(pid_in(folder / "p"))
        program.stop(DEADLINE)
        assert not child.alive()
        assert (folder / "asked").read_text() == "asked\n"
        assert program.wait(DEADLINE) == -15


def test_with_waits_then_ends_what_was_left(backend: Any, folder: Path) -> None:
    with backend.popen(leave_child(folder / "p")) as program:
        pass
    assert program.returncode == 7
    assert not alive(pid_in(folder / "p"))
    assert program.job.closed


def test_with_leaves_them_when_told_so(backend: Any, folder: Path) -> None:
    with backend.popen(leave_child(folder / "p"), kill_on_close=False) as program:
        pass
    child = Identity.of(pid_in(folder / "p"))
    assert child.alive()
    child.end()
    assert program.returncode == 7


def test_an_exception_in_the_block_is_not_replaced(backend: Any) -> None:
    with pytest.raises(ZeroDivisionError), backend.popen(["sleep", "0.1"]):
        raise ZeroDivisionError


def test_ctrl_c_in_the_block_ends_the_tree(backend: Any) -> None:
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt), backend.popen(SLEEP) as program:
        raise KeyboardInterrupt
    assert time.monotonic() - begin < DEADLINE
    assert program.wait(DEADLINE) == -9


def test_the_job_of_an_ended_program_can_be_looked_at(backend: Any) -> None:
    with backend.job() as job:
        program = job.popen(["true"])
        assert program.wait(DEADLINE) == 0
        assert program.job.pids() == []
        assert program.job.parent is job
        assert program.job is program.job
    assert program.job.parent is job


def test_closing_the_private_job_ends_the_program(backend: Any) -> None:
    program = backend.popen(SLEEP)
    program.job.close()
    assert program.wait(DEADLINE) == -9
    program.kill()


def test_closing_the_job_around_ends_the_program(backend: Any) -> None:
    with backend.job() as job:
        program = job.popen(SLEEP)
    assert program.wait(DEADLINE) == -9
    program.kill()
    assert program.job.closed


# -- dropped ----------------------------------------------------------------------------------------------------------


def test_a_dropped_popen_kills_nothing(backend: Any, folder: Path) -> None:
    program = backend.popen(["sh", "-c", f"echo $$ >{folder}/p; exec sleep 1000"])
    identity = Identity.of(pid_in(folder / "p"))
    with pytest.warns(ResourceWarning, match=f"subprocess {program.pid} is still running"):  # noqa: PT031
        del program
        gc.collect()
    with backend.popen(["true"]):  # a later start looks at those that were dropped
        time.sleep(0.1)
    assert identity.alive()
    identity.end()
    eventually(lambda: not identity.alive())
    for _ in range(20):
        backend.popen(["true"]).wait(DEADLINE)


def test_a_dropped_popen_ends_with_its_owner(backend: Any, folder: Path, owners: Any) -> None:
    if not backend.has("dies_with_owner"):
        pytest.skip("nothing ends with its owner here")
    code = (
        f"import pyjob, os\n"
        f"pyjob.Popen(['sh', '-c', 'echo $$ >{folder}/p; exec sleep 1000'], backend={str(backend)!r})\n"
        f"import time\n"
        f"while not os.path.exists('{folder}/p'): time.sleep(0.01)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=DEADLINE)
    pid = pid_in(folder / "p")
    eventually(lambda: not alive(pid))


def test_a_collected_popen_drops_without_a_warning(backend: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program = backend.popen(["true"])
        program.wait(DEADLINE)
        del program
        gc.collect()


def test_a_thousand_in_a_row_leave_nothing(backend: Any) -> None:
    for _ in range(50):
        backend.popen(["true"]).wait(DEADLINE)
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):
        backend.popen(["true"]).wait(DEADLINE)
    gc.collect()
    if descriptors:
        eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 2048, "KiB more than before"


def test_finished_popens_that_are_kept_hold_no_descriptors(backend: Any) -> None:
    """A program that keeps all its Popens and ran with stock under `ulimit -n` shall run with ours."""
    before = len(os.listdir("/proc/self/fd"))
    kept = []
    for _ in range(60):
        kept.append(backend.popen(["true"]))
        assert kept[-1].wait(DEADLINE) == 0

    def few() -> bool:
        backend.popen(["true"]).wait(DEADLINE)
        return len(os.listdir("/proc/self/fd")) - before < 12

    eventually(few)


@pytest.mark.main_interpreter
def test_a_forked_child_neither_kills_nor_waits(backend: Any) -> None:
    with backend.popen(SLEEP) as program:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                program.kill()
                status = 0 if program.poll() is not None else 2
            except pyjob.JobClosedError:
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert program.poll() is None
        program.kill()


# -- beside other code ------------------------------------------------------------------------------------------------


@pytest.mark.main_interpreter
def test_os_wait_sees_the_program_and_no_helper(backend: Any) -> None:
    """A loop over os.wait() gets the caller's own children and nothing else."""
    own = os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "sleep 0.1; exit 9")
    program = backend.popen(["sh", "-c", "exit 6"])
    found = {}
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            break
        found[pid] = os.waitstatus_to_exitcode(status)
    assert found.pop(own) == 9
    if backend.has("own_child"):
        assert found == {program.pid: 6}
        assert program.wait(DEADLINE) == 0  # as stock says when somebody else has collected it
    else:
        assert found == {}
        assert program.wait(DEADLINE) == 6


@pytest.mark.needs("own_child")
def test_the_program_is_our_child(backend: Any) -> None:
    with backend.popen(["sh", "-c", "echo $PPID"], stdout=subprocess.PIPE) as program:
        assert int(program.stdout.read()) == os.getpid()


def test_the_pid_is_not_recycled_before_it_is_collected(backend: Any) -> None:
    with backend.popen(["true"]) as program:
        time.sleep(0.2)
        os.kill(program.pid, 0)  # a zombie holds it


def test_killpg_of_a_session_leader(backend: Any) -> None:
    with backend.popen(["sh", "-c", "sleep 1000 & wait"], start_new_session=True) as program:
        assert os.getsid(program.pid) == program.pid
        os.killpg(program.pid, signal.SIGKILL)
        assert program.wait(DEADLINE) == -9


def test_process_group_is_honoured(backend: Any) -> None:
    with backend.popen(["sh", "-c", "sleep 1000 & wait"], process_group=0) as program:
        assert os.getpgid(program.pid) == program.pid
        os.killpg(program.pid, signal.SIGKILL)
        assert program.wait(DEADLINE) == -9


@pytest.mark.needs("escape_proof")
def test_no_session_or_group_is_added_unasked(backend: Any) -> None:
    with backend.popen(SLEEP) as program:
        assert os.getpgid(program.pid) == os.getpgid(0)
        assert os.getsid(program.pid) == os.getsid(0)
        program.kill()


@pytest.mark.needs("own_child")
def test_asyncio_with_our_popen(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Popen(pyjob.Popen[Any]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, backend=str(backend), **kwargs)

    monkeypatch.setattr(subprocess, "Popen", Popen)

    async def main() -> tuple[bytes, int | None]:
        process = await asyncio.create_subprocess_exec("sh", "-c", "read x; echo got $x; exit 3", stdin=-1, stdout=-1)
        output, _ = await process.communicate(b"it\n")
        return output, process.returncode

    assert asyncio.run(main()) == (b"got it\n", 3)


def test_limits_affinity_and_umask_are_those_of_the_moment(backend: Any) -> None:
    """The guard of a start is not an earlier start's: what the caller changed meanwhile counts."""
    code = "import os, resource as r; print(r.getrlimit(r.RLIMIT_CORE), os.umask(0), len(os.sched_getaffinity(0)))"

    def look() -> bytes:
        with backend.popen(python(code), stdout=subprocess.PIPE) as program:
            return bytes(program.stdout.read())

    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    affinity, mask = os.sched_getaffinity(0), os.umask(0o77)
    try:
        assert look() == f"{(soft, hard)} {0o77} {len(affinity)}\n".encode()
        wanted = 4096 if soft != 4096 and (hard == -1 or hard >= 4096) else 0
        resource.setrlimit(resource.RLIMIT_CORE, (wanted, hard))
        os.umask(0o27)
        os.sched_setaffinity(0, {min(affinity)})
        assert look() == f"{(wanted, hard)} {0o27} 1\n".encode()
    finally:
        os.umask(mask)
        os.sched_setaffinity(0, affinity)
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.mark.main_interpreter
def test_signal_mask_and_dispositions(backend: Any) -> None:
    code = "import signal; print(sorted(map(int, signal.pthread_sigmask(0, []))), signal.getsignal(1).name)"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    hup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with subprocess.Popen(python(code), stdout=subprocess.PIPE) as program:
            assert program.stdout is not None
            stock = program.stdout.read()
        with backend.popen(python(code), stdout=subprocess.PIPE) as program:
            assert program.stdout.read() == stock
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGHUP, hup)
    assert b"SIG_IGN" in stock


@pytest.mark.main_interpreter
def test_sigchld_ignored(backend: Any) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        program = backend.popen(["sh", "-c", "exit 3"])
        assert program.wait(DEADLINE) in (0, 3)  # stock gives 0: nobody knows; a guard still does
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_environment_changed_behind_os_environ(backend: Any) -> None:
    os.putenv("PYJOB_TEST_PUT", "by putenv")
    try:
        with backend.popen(["sh", "-c", "echo $PYJOB_TEST_PUT"], stdout=subprocess.PIPE) as program:
            assert program.stdout.read() == b"by putenv\n"
    finally:
        os.unsetenv("PYJOB_TEST_PUT")


def test_the_environment_without_a_gil(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python knows of it, since nothing guards what the C library knows."""
    monkeypatch.setattr("pyjob._posix._FREE_THREADED", True)
    monkeypatch.setitem(os.environb, b"PYJOB_TEST_SET", b"\xff")
    monkeypatch.setenv("PYJOB_TEST_PUT", "known")
    os.putenv("PYJOB_TEST_PUT", "by putenv")
    with backend.popen(["sh", "-c", "echo $PYJOB_TEST_SET$PYJOB_TEST_PUT"], stdout=subprocess.PIPE) as program:
        assert program.stdout.read() == b"\xffknown\n"


def test_the_program_holds_nothing_of_ours_when_it_is_started(backend: Any) -> None:
    """Whoever closes a pipe, or a locked file, after a start does not share it with the program for a while."""
    for _ in range(40):
        reader, writer = os.pipe()
        with backend.popen(["sleep", "0.05"]):
            os.close(reader)
            with pytest.raises(BrokenPipeError):
                os.write(writer, b"x")
        os.close(writer)


FILLS_ITS_STREAMS = """
import os, pyjob
def go(code):
    return pyjob.run(["sh", "-c", f"exit {code}"], backend=%r).returncode
log = open(%r, "w")
for fd in range(3):
    os.close(fd)
codes = [go(1)]
null = os.open(os.devnull, os.O_RDWR)
for fd in range(3):
    os.dup2(null, fd)
print(codes + [go(2), go(3)], file=log)
"""


def test_an_owner_that_fills_its_standard_streams_later(backend: Any, folder: Path) -> None:
    """None of what we keep open has their numbers, though they were free when it was opened."""
    script = FILLS_ITS_STREAMS % (str(backend), str(folder / "log"))
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert (folder / "log").read_text() == "[1, 2, 3]\n"


def test_many_threads_start_at_once(backend: Any) -> None:
    wrong: list[Any] = []

    def start(number: int) -> None:
        for turn in range(10):
            with backend.popen(["sh", "-c", f"echo {number}; exit {turn}"], stdout=subprocess.PIPE) as program:
                output = program.stdout.read()
                if (output, program.wait(DEADLINE)) != (b"%d\n" % number, turn):
                    wrong.append((number, turn, output, program.returncode))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(120)
    assert wrong == []


# -- at a terminal ----------------------------------------------------------------------------------------------------


def on_terminal(code: str, keys: bytes = b"") -> tuple[int, str]:
    """Runs Python code as a session leader with a terminal of its own; types `keys` when it says READY."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    output = b""
    end = time.monotonic() + DEADLINE
    try:
        while time.monotonic() < end:
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(terminal, 4096)
            except OSError:
                break
            if not data:
                break
            if b"READY" not in output and b"READY" in output + data:
                time.sleep(0.2)
                os.write(terminal, keys)
            output += data
        else:
            os.killpg(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.decode()
    finally:
        os.close(terminal)


@pytest.mark.main_interpreter
def test_a_program_reads_the_terminal(backend: Any) -> None:
    code = (
        "import pyjob, sys\n"
        "program = ['sh', '-c', 'echo READY; read line; echo got-$line']\n"
        f"with pyjob.Popen(program, backend={str(backend)!r}) as program:\n"
        "    print('status', program.wait(20), flush=True)\n"
        "print('parent read', sys.stdin.readline().strip(), flush=True)\n"  # the terminal is the caller's again
    )
    status, output = on_terminal(code, b"word\nagain\n")
    assert status == 0, output
    assert "got-word" in output
    assert "status 0" in output
    assert "parent read again" in output


@pytest.mark.main_interpreter
def test_ctrl_c_at_the_terminal_reaches_the_program(backend: Any) -> None:
    code = (
        "import pyjob, signal\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "code = 'trap \"echo caught; exit 42\" INT; echo READY; while :; do sleep 0.05; done'\n"
        f"program = pyjob.Popen(['sh', '-c', code], backend={str(backend)!r})\n"
        "print('status', program.wait(20), flush=True)\n"
    )
    status, output = on_terminal(code, b"\x03")
    assert status == 0, output
    assert "caught" in output
    assert "status 42" in output


@pytest.mark.parametrize("timeout", [float("inf"), 1e10, Fraction(60), True])
def test_timeouts_as_stock_takes_them(backend: Any, timeout: Any) -> None:
    assert backend.popen(["true"]).wait(timeout) == 0
    assert backend.run(["true"], timeout=timeout).returncode == 0


def test_a_timeout_is_told_as_it_was_given(backend: Any) -> None:
    with backend.popen(SLEEP) as process:
        with pytest.raises(subprocess.TimeoutExpired, match="after 0 seconds") as caught:
            process.wait(0)
        assert repr(caught.value.timeout) == "0"
        process.kill()
