"""Uses pyjob from end to end, over and over, with an extension whose calls to Windows can be told to fail.

`refusals.py PART SLEEPER JOURNAL` prints a line of JSON before each trial, and one after it. What stands in the journal
is not tried again. The seam is shim/faults.h."""

from __future__ import annotations

import ctypes
import gc
import json
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyjob
from pyjob import _native

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
from helpers.leftovers import handles  # noqa: E402 - Wine has no GetProcessHandleCount()

PART, SLEEPER = sys.argv[1:3]
JOURNAL = Path(sys.argv[3])
ACCESS_DENIED, NOT_ENOUGH_MEMORY, NO_SYSTEM_RESOURCES = 5, 8, 1450
ERRORS = {
    "AssignProcessToJobObject": (ACCESS_DENIED, NO_SYSTEM_RESOURCES),
    "ConvertSidToStringSidW": (NOT_ENOUGH_MEMORY,),
    "CreateJobObjectW": (ACCESS_DENIED, NO_SYSTEM_RESOURCES),
    "CreateProcessW": (ACCESS_DENIED, NO_SYSTEM_RESOURCES),
    "DuplicateHandle": (NO_SYSTEM_RESOURCES,),
    "GenerateConsoleCtrlEvent": (ACCESS_DENIED,),
    "GetExitCodeProcess": (ACCESS_DENIED,),
    "GetProcessTimes": (ACCESS_DENIED,),
    "GetTokenInformation": (NO_SYSTEM_RESOURCES,),
    "InitializeProcThreadAttributeList": (NOT_ENOUGH_MEMORY,),
    "IsProcessInJob": (ACCESS_DENIED, NO_SYSTEM_RESOURCES),
    "MultiByteToWideChar": (NOT_ENOUGH_MEMORY,),
    "NtQuerySystemInformation": (NO_SYSTEM_RESOURCES,),  # as RtlNtStatusToDosError() tells the seam's
    "OpenJobObjectW": (ACCESS_DENIED,),
    "OpenProcess": (ACCESS_DENIED, NO_SYSTEM_RESOURCES),
    "OpenProcessToken": (ACCESS_DENIED,),
    "QueryInformationJobObject": (ACCESS_DENIED, NO_SYSTEM_RESOURCES),
    "ResumeThread": (ACCESS_DENIED,),
    "SetInformationJobObject": (ACCESS_DENIED,),
    "TerminateJobObject": (ACCESS_DENIED,),
    "TerminateProcess": (ACCESS_DENIED,),
    "UpdateProcThreadAttribute": (NOT_ENOUGH_MEMORY,),
    "WaitForSingleObject": (NO_SYSTEM_RESOURCES,),
    "malloc": (NOT_ENOUGH_MEMORY,),
    "calloc": (NOT_ENOUGH_MEMORY,),
    "realloc": (NOT_ENOUGH_MEMORY,),
}
MOST = 8  # of one call in one run of the scenario; later ones are more of the same
OURS = (OSError, MemoryError, ValueError, subprocess.TimeoutExpired, pyjob.JobError)

seam = ctypes.CDLL(_native.__file__)


def ask(call: str = "", number: int = 0, error: int = 0) -> int:
    """How often the call that was asked for before was made since."""
    return int(seam.pj_fault_ask(call.encode(), number, error))


def ended(wait: Callable[[float], object]) -> bool:
    try:
        wait(0)
    except subprocess.TimeoutExpired:
        return False
    return True


def names(error: BaseException, call: str) -> bool:
    """Whether it tells which call was refused. A start is refused in the stock's words, with the call beside them; less
    rights than those asked for first are enough for Windows, but not for Wine's IsProcessInJob()."""
    told = {getattr(error, "call", None), *str(error).replace("(", " ").replace(")", " ").split()}
    return call in told or (call == "OpenProcess" and "IsProcessInJob" in told)


class Run:
    """The scenario, each step whatever became of the one before."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, BaseException]] = []
        self.open: list[Any] = []

    def try_(self, step: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            self.errors.append((step, error))
            return None

    def whole(self) -> None:
        job = self.try_("Job", pyjob.Job)
        if job is None:
            return
        self.open.append(job)
        group = subprocess.CREATE_NEW_PROCESS_GROUP
        # None that starts another: Wine 8's server exits when a start races with the end of its job.
        first = self.try_("popen", lambda: job.popen([SLEEPER, "600"]))
        second = self.try_("popen 2", lambda: job.popen([SLEEPER, "600"], creationflags=group))
        self.try_("pids", job.pids)
        self.try_("members", lambda: [one.is_alive() for one in job.members()])
        self.try_("contains", lambda: first.pid in job)
        self.try_("send_signal", lambda: job.send_signal(signal.CTRL_BREAK_EVENT))
        self.try_("wait", lambda: ended(job.wait))
        if first is not None:
            self.try_("Popen.kill", first.kill)
            self.try_("Popen.wait", lambda: first.wait(5))
        self.try_("send_signal 2", lambda: job.send_signal(signal.SIGTERM))
        third = self.try_("popen 3", lambda: job.popen([SLEEPER, "600"]))
        self.try_("kill", lambda: job.kill(5))
        for one in (second, third):
            if one is not None:
                self.try_("Popen.wait 2", lambda one=one: one.wait(5))
        self.try_("close", job.close)

    def single(self) -> None:
        child = subprocess.Popen([SLEEPER, "600", "another"])
        try:
            handle = self.try_("ProcessHandle", lambda: pyjob.ProcessHandle(child))
            self.try_("children", lambda: pyjob.children(recursive=True))
            if handle is not None:
                self.open.append(handle)
                self.try_("is_alive", handle.is_alive)
                self.try_("ProcessHandle.wait", lambda: ended(handle.wait))
                self.try_("create_time", lambda: handle.create_time)
            if self.try_("kill_tree", lambda: pyjob.kill_tree(child)) is None:
                self.try_("kill_tree again", lambda: pyjob.kill_tree(child))
            if handle is not None:
                self.try_("ProcessHandle.wait 2", lambda: handle.wait(5))
                self.try_("ProcessHandle.close", handle.close)
        finally:
            child.kill()
            child.wait()

    def moves(self) -> None:
        child = subprocess.Popen([SLEEPER, "600"])
        try:
            job = self.try_("Job", lambda: pyjob.Job(kill_on_close=True))
            if job is not None:
                self.open.append(job)
                self.try_("assign", lambda: job.assign(child))
                self.try_("release", job.release)
                self.try_("kill", lambda: job.kill(5))
                self.try_("close", job.close)
        finally:
            child.kill()
            child.wait()

    def named(self) -> None:
        name = f"fault-{time.monotonic_ns()}"
        job = self.try_("Job", lambda: pyjob.Job(name))
        if job is not None:
            self.open.append(job)
            program = self.try_("popen", lambda: job.popen([SLEEPER, "600"]))
            other = self.try_("open", lambda: pyjob.Job.open(name))
            if other is not None:
                self.open.append(other)
                self.try_("pids", other.pids)
                self.try_("kill", lambda: other.kill(5))
                self.try_("close other", other.close)
            self.try_("close", job.close)
            if program is not None:
                self.try_("Popen.wait", lambda: program.wait(5))

    def finish(self) -> list[str]:
        """Without faults: what could not be closed is closed now, and whoever is left then is told."""
        problems = []
        for one in self.open:
            try:
                one.close()
            except Exception as error:
                problems.append(f"cannot be closed: {error!r}")
        return problems


def trial(call: str, number: int, error: int, stranger: subprocess.Popen[bytes]) -> tuple[list[str], int]:
    """What went wrong, and how many steps told a refusal."""
    run = Run()
    ask(call, number, error)
    getattr(run, PART)()
    if ask() < number:
        run.errors.clear()  # the scenario took another way: nothing was refused
    problems = run.finish()
    for step, one in run.errors[:1]:
        if not names(one, call) and not isinstance(one, (pyjob.SurvivorsError, subprocess.TimeoutExpired)):
            problems.append(f"{step}: does not name the call: {one!r}")
    problems += [
        f"{step}: {''.join(traceback.format_exception(one))}"
        for step, one in run.errors
        if not isinstance(one, OURS) and not isinstance(one, AttributeError | TypeError)
    ]
    left = [pid for pid in pyjob.children(recursive=True) if pid != stranger.pid]
    if left:
        problems.append(f"left: {left}")
        for pid in left:
            pyjob.ProcessHandle(pid).kill()
    if stranger.poll() is not None:
        problems.append("a stranger is dead")
    if pyjob.run([SLEEPER, "0"]).returncode != 0:
        problems.append("the next use fails")
    return problems, len(run.errors)


def main() -> None:
    lines = JOURNAL.read_text().splitlines() if JOURNAL.exists() else []
    tried = dict(zip(lines[::2], lines[1::2], strict=False))  # the last may be cut
    stranger = subprocess.Popen([SLEEPER, "600"])
    try:
        for _ in range(2):  # imports what is imported late
            ask("malloc")
            run = Run()
            getattr(run, PART)()
            assert not run.errors and not run.finish(), run.errors
        for call, errors in ERRORS.items():
            ask(call)
            getattr(Run(), PART)()
            times = ask()
            for number in range(1, min(times, MOST) + 1):
                for error in errors:
                    fault = json.dumps({"call": call, "number": number, "error": error})
                    print(fault, flush=True)
                    if fault not in tried:
                        gc.collect()
                        before = handles()
                        problems, told = trial(call, number, error, stranger)
                        gc.collect()
                        if (after := handles()) > before:
                            problems.append(f"{after - before} handles are left")
                        tried[fault] = json.dumps({"problems": problems, "told": told})
                        with JOURNAL.open("a") as journal:
                            print(fault, tried[fault], sep="\n", file=journal)
                    print(tried[fault], flush=True)
    finally:
        stranger.kill()
        stranger.wait()


main()
