"""What others do: psutil as its documentation has it, a stock loop over /proc, os.killpg(), and the floor in C."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import defaultdict
from pathlib import Path

import psutil


def psutil_list(pid: int) -> list[int]:
    parent = psutil.Process(pid)
    return [pid, *(one.pid for one in parent.children(recursive=True))]


def proc_list(pid: int) -> list[int]:
    """Who is whose child, from every /proc/PID/stat; then downwards from `pid`."""
    below: defaultdict[int, list[int]] = defaultdict(list)
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    text = file.read()
            except OSError:
                continue
            # The name of the program, in parentheses, may hold anything.
            below[int(text[text.rindex(b")") + 2 :].split()[1])].append(int(name))
    found = [pid]
    for one in found:
        found += below[one]
    return found


def psutil_kill(pid: int) -> None:
    """kill_proc_tree() of psutil's documentation, with SIGKILL, and without its wait for everybody to be reaped."""
    parent = psutil.Process(pid)
    children = parent.children(recursive=True)
    children.append(parent)
    for one in children:
        try:
            one.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            pass


def group_kill(pid: int) -> None:
    os.killpg(pid, signal.SIGKILL)


def floor_kill(program: Path, cgroup: Path) -> float:
    """Seconds that the C program needed, as it says; not those of its start."""
    return int(subprocess.run([program, cgroup], capture_output=True, check=True).stdout) / 1e9
