"""Each call to Windows that our C code makes fails once, at each of the first places where it makes it.

What must hold: no crash, no hang; an error that names the call; no stranger touched; whoever was started is gone with
the job; no handle left; and the next use works. (On Linux: fault/test_faults.py, by strace.)

With so many starts and ends of jobs Wine 8's server crashes in one run of a few. bed.py then runs this file once more,
and what was tried already is taken from a journal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
REACHED: set[str] = set()

pytestmark = [
    pytest.mark.skipif(sys.platform != "win32", reason="the seam is for Windows"),
    pytest.mark.timeout(380),
]


@pytest.mark.skipif("PYJOB_FAULTY" not in os.environ, reason="bed.py builds the seam, for one version of Python")
@pytest.mark.parametrize("part", ["whole", "single", "moves", "named"])
def test_each_call_may_fail(part):
    folder = Path(os.environ["PYJOB_FAULTY"])
    env = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, str(HERE / "refusals.py"), part, str(folder / "sleeper.exe"), f"{folder}/{part}.journal"]
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=360)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"at {told[-1:]}: {done.returncode}\n{done.stderr}"
    trials = list(zip(told[::2], told[1::2], strict=True))
    problems = [f"{fault}: {one}" for fault, found in trials for one in found["problems"]]
    print(f"{len(trials)} places")
    REACHED.update(fault["call"] for fault, _ in trials)
    assert len(trials) > 10
    assert sum(found["told"] > 0 for _, found in trials) > len(trials) / 3, "nothing is refused"
    assert not problems, "\n".join(problems)


def test_the_table_is_whole():
    """What the sources call is behind the seam, or cannot fail; and what is behind it was refused above."""
    harmless = """
        CloseHandle GetLastError GetCurrentProcess GetCurrentProcessId GetProcessId LocalFree RtlNtStatusToDosError
        QueryPerformanceCounter QueryPerformanceFrequency AcquireSRWLockExclusive AcquireSRWLockShared
        ReleaseSRWLockExclusive ReleaseSRWLockShared InitializeSRWLock InterlockedIncrement
        InterlockedCompareExchange DeleteProcThreadAttributeList FormatMessageW
    """
    text = re.sub(r"/\*.*?\*/", "", "".join(one.read_text() for one in (CSRC / "win").glob("*.[ch]")), flags=re.S)
    used = set(re.findall(r"\b((?:[A-Z][a-z]+){2,}[A-Z]*)\(", text))
    assert len(used) > 20
    behind = set(re.findall(r"^#define (\w+)\(\.\.\.\)", (HERE / "shim/faults.h").read_text(), re.M))
    assert used - set(harmless.split()) - behind == set()
    if len(REACHED) > 20:  # not where single tests were chosen
        assert behind - REACHED <= {"ResumeThread"}, "where a start is refused the job list"
