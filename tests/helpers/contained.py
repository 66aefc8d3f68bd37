"""`contained.py COMMAND…`, as root in new mount and PID namespaces (`unshare --mount --pid --fork`): runs a command as
in an ordinary container. /proc hides other users' processes (hidepid=2), every cgroup hierarchy is read-only, and PID 1
reaps whoever is orphaned. The command gives up root by itself."""

from __future__ import annotations

import os
import subprocess
import sys


def call(*command: str) -> None:
    subprocess.run(command, check=True)


def hide() -> None:
    with open("/proc/self/mounts") as mounts:
        groups = [line.split()[1] for line in mounts if line.split()[2] in ("cgroup", "cgroup2")]
    for place in groups:
        call("mount", "--options", "remount,bind,ro", place)
    call("mount", "--types", "proc", "--options", "hidepid=2", "proc", "/proc")


def main() -> int:
    assert os.getpid() == 1, "unshare --pid --fork is missing"
    hide()
    command = subprocess.Popen(sys.argv[1:])
    while True:
        pid, status = os.wait()
        if pid == command.pid:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(abs(main()))
