"""run(), call(), check_call(), check_output(): deadlines, leftovers, late output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import pyjob
from helpers.procs import DEADLINE, Identity, alive, eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX programs")


def pid_in(file: Path) -> int:
    return int(eventually(lambda: file.exists() and file.read_text().strip(), message=str(file)))


# -- as stock ---------------------------------------------------------------------------------------------------------


def test_the_result_is_stock(backend: Any) -> None:
    ours = backend.run(["sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True, text=True)
    stock = subprocess.run(["sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True, text=True)
    assert isinstance(ours, subprocess.CompletedProcess)
    assert repr(ours) == repr(stock)
    assert ours.leftovers == []
    with pytest.raises(subprocess.CalledProcessError) as caught:
        ours.check_returncode()
    assert caught.value.output == "out\n"


def test_check_tells_what_was_collected(backend: Any) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        backend.run(["sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True, check=True)
    error = caught.value
    assert (error.returncode, error.stdout, error.stderr) == (3, b"out\n", b"err\n")


@pytest.mark.parametrize("linger", [None, 5.0])
def test_input_and_output_larger_than_the_pipes(backend: Any, linger: float | None) -> None:
    data = os.urandom(3_000_000)
    done = backend.run(["cat"], input=data, capture_output=True, linger=linger, timeout=60)
    assert done.stdout == data


@pytest.mark.parametrize("linger", [None, 5.0])
def test_input_that_nobody_reads(backend: Any, linger: float | None) -> None:
    done = backend.run(["true"], input=b"x" * 1_000_000, capture_output=True, linger=linger)
    assert done.returncode == 0


def test_text_with_linger(backend: Any) -> None:
    done = backend.run(
        ["sh", "-c", r"cat; printf '\303\251\r\n'"], input="ü\n", capture_output=True, encoding="utf-8", linger=5
    )
    assert done.stdout == "ü\né\n"


def test_relatives(backend: Any) -> None:
    name = str(backend)
    assert pyjob.call(["sh", "-c", "exit 3"], backend=name) == 3
    assert pyjob.check_call(["true"], backend=name) == 0
    assert pyjob.check_output(["cat"], input=b"here", backend=name) == b"here"
    assert pyjob.check_output(["cat"], input=None, text=True, backend=name) == ""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        pyjob.check_call(["sh", "-c", "exit 3"], backend=name)
    assert caught.value.cmd == ["sh", "-c", "exit 3"]
    with pytest.raises(subprocess.CalledProcessError) as caught:
        pyjob.check_output(["sh", "-c", "echo x; exit 3"], backend=name)
    assert caught.value.output == b"x\n"


@pytest.mark.parametrize(
    "arguments",
    [
        {"input": b"", "stdin": subprocess.PIPE},
        {"capture_output": True, "stdout": subprocess.PIPE},
        {"capture_output": True, "stderr": subprocess.PIPE},
    ],
)
def test_arguments_that_exclude_each_other(backend: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="may not") as ours:
        backend.run(["true"], **arguments)
    with pytest.raises(ValueError, match="may not") as stock:
        subprocess.run(["true"], **arguments)
    assert str(ours.value) == str(stock.value)


@pytest.mark.parametrize("name", ["stdout", "check"])
def test_check_output_refuses(backend: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} argument not allowed"):
        pyjob.check_output(["true"], backend=str(backend), **{name: None})


# -- the deadline -----------------------------------------------------------------------------------------------------


def deadline(backend: Any, code: str, **options: Any) -> tuple[subprocess.TimeoutExpired, float]:
    begin = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        backend.run(["sh", "-c", code], timeout=0.5, **options)
    return caught.value, time.monotonic() - begin


@pytest.mark.parametrize("linger", [None, 0.2])
def test_the_deadline_ends_the_tree(backend: Any, folder: Path, linger: float | None) -> None:
    code = f"sleep 1000 & echo $! >{folder}/p; echo out; echo err >&2; sleep 1000"
    expired, took = deadline(backend, code, capture_output=True, linger=linger)
    assert 0.5 <= took < 5.5
    assert (expired.stdout, expired.stderr) == (b"out\n", b"err\n")
    assert expired.timeout == 0.5
    assert expired.__cause__ is None
    assert not alive(pid_in(folder / "p"))


def test_the_deadline_without_pipes(backend: Any, folder: Path) -> None:
    expired, took = deadline(backend, f"sleep 1000 & echo $! >{folder}/p; wait")
    assert took < 5.5
    assert expired.stdout is None
    assert not alive(pid_in(folder / "p"))


def test_the_deadline_of_call(backend: Any, folder: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        pyjob.call(["sh", "-c", f"sleep 1000 & echo $! >{folder}/p; wait"], timeout=0.5, backend=str(backend))
    assert not alive(pid_in(folder / "p"))


@pytest.mark.parametrize("linger", [None, 0.3])
def test_an_outsider_holds_our_own_pipe(backend: Any, folder: Path, linger: float | None) -> None:
    """A process outside opens the program's stdout by way of /proc, as one to which it was passed over a socket."""
    holder: list[Any] = []

    def hold() -> None:
        pid = pid_in(folder / "p")
        holder.append(os.open(f"/proc/{pid}/fd/1", os.O_WRONLY))
        (folder / "held").touch()

    thread = threading.Thread(target=hold)
    thread.start()
    code = f"echo $$ >{folder}/p; while [ ! -e {folder}/held ]; do sleep 0.02; done; echo done; sleep 1000"
    begin = time.monotonic()
    try:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            backend.run(["sh", "-c", code], stdout=subprocess.PIPE, timeout=2, linger=linger)
        assert time.monotonic() - begin < 30
        assert caught.value.stdout == b"done\n"
    finally:
        thread.join(DEADLINE)
        os.close(holder[0])


def test_a_flood_is_no_reason_to_be_late(backend: Any) -> None:
    expired, took = deadline(backend, "yes & yes & wait", stdout=subprocess.PIPE)
    assert took < 5.5
    assert set(expired.stdout or b"") == {ord("y"), ord("\n")}


@pytest.mark.root
def test_survivors_are_the_cause(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyjob._run

    started: list[Any] = []

    class Unkillable(pyjob.Popen[Any]):
        def _kill_tree(self, seconds: float) -> list[int]:
            super()._kill_tree(seconds)
            started.append(self)
            return [self.pid]

    monkeypatch.setattr(pyjob._run, "Popen", Unkillable)
    expired, took = deadline(backend, "sleep 1000")
    assert took < 5.5
    assert isinstance(expired.__cause__, pyjob.SurvivorsError)
    assert expired.__cause__.pids == [started[0].pid]


# -- leftovers --------------------------------------------------------------------------------------------------------


def test_leftovers_are_ended_and_named(backend: Any, folder: Path) -> None:
    done = backend.run(["sh", "-c", f"sleep 1000 >/dev/null 2>&1 & echo $! >{folder}/p"], capture_output=True)
    pid = pid_in(folder / "p")
    assert done.leftovers == [pid]
    assert not alive(pid)


def test_leftovers_are_asked_first(backend: Any, folder: Path) -> None:
    code = (
        f"(trap 'echo asked >{folder}/asked; exit' TERM; echo $$ >{folder}/p; while :; do sleep 0.02; done)"
        " >/dev/null 2>&1 & "
        f"while [ ! -e {folder}/p ]; do sleep 0.02; done"
    )
    done = backend.run(["sh", "-c", code])
    assert done.returncode == 0
    assert len(done.leftovers) >= 1
    assert (folder / "asked").read_text() == "asked\n"


def test_leftovers_that_will_not_listen_are_killed(backend: Any, folder: Path) -> None:
    deaf = f"(trap '' TERM; echo x >{folder}/p; while :; do sleep 0.2; done) & "
    code = deaf + f"while [ ! -e {folder}/p ]; do sleep 0.02; done"
    begin = time.monotonic()
    done = backend.run(["sh", "-c", code], stdin=subprocess.DEVNULL)
    assert time.monotonic() - begin < 30
    assert done.leftovers
    assert not any(alive(pid) for pid in done.leftovers)


def test_leftovers_can_be_left(backend: Any, folder: Path) -> None:
    done = backend.run(["sh", "-c", f"sleep 1000 >/dev/null 2>&1 & echo $! >{folder}/p"], kill_on_close=False)
    child = Identity.of(pid_in(folder / "p"))
    assert done.leftovers == []
    assert child.alive()
    child.end()


def test_a_writer_that_outlives_the_program_is_heard(backend: Any) -> None:
    """As stock: pipes are read to their end."""
    done = backend.run(["sh", "-c", "(sleep 0.7; echo late) & echo early"], stdout=subprocess.PIPE)
    assert done.stdout == b"early\nlate\n"
    assert done.leftovers == []


@pytest.mark.tool("bash", "gzip")
def test_process_substitution_is_not_cut_off(backend: Any, folder: Path) -> None:
    """bash does not wait for `>(gzip)`, which writes on when the program has ended."""
    script = f"seq 300000 | tee >(gzip -9 >{folder}/n.gz) >/dev/null"
    assert backend.run(["bash", "-c", script]).returncode == 0
    text = subprocess.run(["gzip", "-dc", f"{folder}/n.gz"], capture_output=True, check=True).stdout
    assert text.endswith(b"\n300000\n")


def test_linger_bounds_the_reading(backend: Any, folder: Path) -> None:
    code = f"echo early; (echo $$ >{folder}/p; sleep 1000) &"
    begin = time.monotonic()
    done = backend.run(["sh", "-c", code], stdout=subprocess.PIPE, linger=0.5)
    assert 0.45 <= time.monotonic() - begin < 20
    assert done.stdout == b"early\n"
    assert done.leftovers


def test_linger_is_counted_from_the_exit(backend: Any) -> None:
    done = backend.run(["sh", "-c", "sleep 0.6; echo out"], stdout=subprocess.PIPE, linger=0)
    assert done.stdout == b"out\n"


def test_linger_lets_late_output_come(backend: Any) -> None:
    done = backend.run(["sh", "-c", "(sleep 0.3; echo late) & echo early"], stdout=subprocess.PIPE, linger=10)
    assert done.stdout == b"early\nlate\n"


def test_output_of_those_that_are_asked_to_end_is_not_lost(backend: Any, folder: Path) -> None:
    code = (
        f"(trap 'echo bye; exit' TERM; echo x >{folder}/p; while :; do sleep 0.02; done) & "
        f"while [ ! -e {folder}/p ]; do sleep 0.02; done; echo early"
    )
    done = backend.run(["sh", "-c", code], stdout=subprocess.PIPE, linger=0.2)
    assert done.stdout == b"early\nbye\n"


@pytest.mark.main_interpreter
def test_nothing_is_alive_after_ctrl_c(backend: Any, folder: Path) -> None:
    timer = threading.Timer(0.5, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        backend.run(["sh", "-c", f"trap '' INT; sleep 1000 & echo $! >{folder}/p; wait"], capture_output=True)
    timer.join()
    assert not alive(pid_in(folder / "p"))


def test_in_a_shared_job_others_are_left_alone(backend: Any) -> None:
    with backend.job() as job:
        sibling = job.popen(["sleep", "1000"])
        assert job.run(["sh", "-c", "sleep 1000 >/dev/null & exit 0"]).leftovers
        with pytest.raises(subprocess.TimeoutExpired):
            job.run(["sleep", "1000"], timeout=0.2)
        assert sibling.poll() is None
        assert job.pids() == [sibling.pid]


def test_large_output(backend: Any) -> None:
    done = backend.run(["head", "-c", "10000000", "/dev/zero"], capture_output=True)
    assert done.stdout == bytes(10_000_000)
