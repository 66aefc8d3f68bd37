"""Runs on Windows (here: under Wine): pyjob against win32job of pywin32 and psutil. Prints rows for cases.windows().

python windows.py FOLDER BLOCKS      FOLDER: where pywin32's wheel is unpacked
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FOLDER, BLOCKS = Path(sys.argv[1]), int(sys.argv[2])
sys.path[:0] = [str(Path(__file__).resolve().parent)]
sys.path += [str(FOLDER / "win32"), str(FOLDER / "win32" / "lib")]
keep = os.add_dll_directory(str(FOLDER / "pywin32_system32"))  # type: ignore[attr-defined]
sys.path.append(str(FOLDER / "pywin32_system32"))

import psutil  # noqa: E402
import win32job  # noqa: E402
from blocks import repeated  # noqa: E402

import pyjob  # noqa: E402

SIZE = 30
MEMBER = ["cmd", "/k"]  # waits for what it is told on standard input
PID_LIST = win32job.JobObjectBasicProcessIdList


@contextlib.contextmanager
def members(popen: Callable[..., Any]) -> Iterator[list[Any]]:
    started: list[Any] = []
    try:
        for _ in range(SIZE):
            started.append(popen(MEMBER, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        yield started
    finally:
        for one in started:
            one.kill()
            one.wait()
            one.stdin.close()


def timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def psutil_kill() -> None:
    children = psutil.Process().children(recursive=True)
    for one in children:
        one.kill()
    psutil.wait_procs(children)


def block() -> dict[tuple[str, str], float]:
    found = {}
    with pyjob.Job() as job, members(job.popen) as started:
        everybody = {one.pid for one in started}
        assert everybody <= set(job.pids())
        found["list", "pyjob"] = repeated(job.pids)()
        found["list", "psutil"] = repeated(lambda: psutil.Process().children(recursive=True))()
        found["kill", "pyjob"] = timed(job.kill)
    with members(subprocess.Popen) as started:
        theirs = win32job.CreateJobObject(None, "")
        for one in started:
            win32job.AssignProcessToJobObject(theirs, int(one._handle))
        assert {one.pid for one in started} <= set(win32job.QueryInformationJobObject(theirs, PID_LIST))
        found["list", "win32job"] = repeated(lambda: win32job.QueryInformationJobObject(theirs, PID_LIST))()
        found["kill", "win32job"] = timed(
            lambda: (win32job.TerminateJobObject(theirs, 1), [one.wait() for one in started])
        )
    with members(subprocess.Popen):
        found["kill", "psutil"] = timed(psutil_kill)
    return found


def main() -> None:
    block()
    blocks = [block() for _ in range(BLOCKS)]
    for case, contender in blocks[0]:
        seconds = " ".join(str(one[case, contender]) for one in blocks)
        print(f"row wine-{case} {contender} {SIZE} {seconds}", flush=True)


if __name__ == "__main__":
    main()
