"""The look for what a test left behind: processes, zombies, descriptors, cgroups; on Windows handles."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import time
import uuid
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from helpers import owner, procs

# Every program that a test starts inherits this; what scrubs its environment has it in its arguments (tests' folders).
TOKEN = "PYJOB_TEST_TOKEN"
os.environ.setdefault(TOKEN, uuid.uuid4().hex)

GRACE = 10.0  # seconds for guards and reapers to finish
POOL = 8  # leaves that an owner may keep for reuse
LINUX = sys.platform.startswith("linux")


def own_cgroup() -> Path | None:
    """Where this process is in the cgroup v2 tree, hybrid mounts included; None without one."""
    try:
        line = next(one for one in Path("/proc/self/cgroup").read_text().splitlines() if one.startswith("0::"))
        for mount in Path("/proc/self/mountinfo").read_text().splitlines():
            left, right = mount.split(" - ")
            if right.split()[0] == "cgroup2":
                root, point = left.split()[3:5]
                below = line[3:] if root == "/" else line[3:].removeprefix(root)
                return Path(point) / below.lstrip("/")
    except (OSError, StopIteration):
        pass
    return None


def members(cgroup: Path) -> set[int]:
    """All processes in this cgroup and below."""
    found: set[int] = set()
    for folder, below, files in os.walk(cgroup):
        if "cgroup.procs" in files:
            try:
                found.update(map(int, Path(folder, "cgroup.procs").read_text().split()))
            except OSError:
                below.clear()  # removed meanwhile
    return found


def roots_of(pid: int) -> list[Path]:
    """The folders that pyjob made below our cgroup for the owner `pid`."""
    cgroup = own_cgroup()
    if cgroup is None or not cgroup.is_dir():
        return []
    return [one for one in cgroup.glob("pyjob-*") if re.fullmatch(rf"pyjob-\d+-{pid}-\d+", one.name)]


def _descriptors() -> dict[int, str]:
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            pass  # the listing's own
    return found


def _leaf_descriptor(target: str) -> bool:
    """One that pyjob keeps with its root and its pool of leaves."""
    return "/pyjob-" in target and f"-{os.getpid()}-" in target


def _sweep() -> None:
    """What the next Popen and pyjob do themselves with dropped Popens: collect those that ended since, and close the
    jobs that are empty by now."""
    import pyjob.job

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    subprocess._cleanup()  # type: ignore[attr-defined]
    for native in pyjob.job._kept.copy():
        if pyjob.job._close_if_empty(native):
            pyjob.job._kept.discard(native)


def handles() -> int:
    """Of this process, by the list of everybody's: GetProcessHandleCount() is a stub in Wine 8, which answers 0."""
    import ctypes

    ask = ctypes.WinDLL("ntdll").NtQuerySystemInformation  # type: ignore[attr-defined]
    room, length = 1 << 16, ctypes.c_ulong()
    while True:
        buffer = (ctypes.c_uint64 * (room // 8))()
        status = ask(64, buffer, room, ctypes.byref(length)) & 0xFFFFFFFF  # SystemExtendedHandleInformation
        if status != 0xC0000004:  # STATUS_INFO_LENGTH_MISMATCH
            assert status == 0, f"NtQuerySystemInformation: {status:#x}"
            # Two words of head, then five for each: object, process, handle, access and type, attributes.
            owners = buffer[3 : 2 + 5 * buffer[0] : 5]
            return owners.count(os.getpid())
        room *= 2


@dataclass
class Baseline:
    """How it was before the test."""

    processes: set[tuple[int, int]] = field(default_factory=set)
    descriptors: dict[int, str] = field(default_factory=dict)
    handles: int = 0
    owners: int = 0
    since: float = field(default_factory=time.monotonic)

    @classmethod
    def take(cls) -> Baseline:
        base = cls(owners=len(owner.started))
        if LINUX:
            base.processes = {one.key for one in procs.processes()}
            base.descriptors = _descriptors()
        elif sys.platform == "win32":
            base.handles = handles()
        return base

    def _ours(self) -> list[procs.Seen]:
        """New processes that this test process, or one of its own, has started."""
        everybody = list(procs.processes())
        below = {one.key for one in procs.descendants(os.getpid(), everybody)}
        cgroup = own_cgroup() if os.environ.get("PYJOB_TEST_CGROUP") else None
        inside = members(cgroup) if cgroup else set()
        lead = os.getsid(0) == os.getpid()
        token = os.environ[TOKEN].encode()
        found = []
        for one in everybody:
            if one.key in self.processes or one.pid == os.getpid():
                continue
            if (
                one.key in below
                or one.pid in inside
                or (lead and one.session == os.getpid())
                or token in one.environ()
                or any(f"pyjob-tests-{os.getpid()}" in argument for argument in one.argv())
            ):
                found.append(one)
        return found

    def leftovers(self) -> list[str]:
        """What is there now and was not before; empty when all is well."""
        if sys.platform == "win32":
            more = handles() - self.handles
            return [f"{more} handles more than before"] if more > 4 else []
        if not LINUX:
            return []
        found = []
        guards = []
        for one in self._ours():
            if one.comm == "pyjob-guard" and one.argv()[1:2] == ["cgroup"] and one.state not in "ZX":
                guards.append(one)  # one for each owner process, which this process is, too
            elif one.state in "ZX" and one.ppid != os.getpid():
                pass  # somebody else's to reap; init of a container may take seconds
            else:
                found.append(("zombie: " if one.state in "ZX" else "process: ") + str(one))
        found += [f"guard: {one}" for one in guards[1:]]
        now = _descriptors()
        found += [
            f"descriptor {fd} -> {now[fd]}"
            for fd in sorted(now)
            if self.descriptors.get(fd) != now[fd] and not _leaf_descriptor(now[fd])
        ]
        if sum(map(_leaf_descriptor, now.values())) > 3 * POOL:
            found.append(f"descriptors of leaves: {[t for t in now.values() if _leaf_descriptor(t)]}")
        for root in roots_of(os.getpid()):
            leaves = [one for one in root.rglob("*") if one.is_dir()]
            found += [f"members in {leaf}: {members(leaf)}" for leaf in leaves if members(leaf)]
            if len(leaves) > POOL:
                found.append(f"{len(leaves)} leaves in {root}")
        for pid in owner.started[self.owners :]:
            if not procs.alive(pid):
                found += [f"cgroup of a dead owner: {root}" for root in roots_of(pid)]
        return found

    def check(self, grace: float = GRACE) -> list[str]:
        """Waits for those on their way out; ends whatever is left, so that the next test starts clean, and names it."""
        end = time.monotonic() + grace
        pause = 0.002
        while True:
            found = self.leftovers()
            if not found:
                return []
            if time.monotonic() >= end:
                break
            _sweep()
            time.sleep(pause)
            pause = min(pause * 2, 0.2)
        if LINUX:
            for one in self._ours():
                if one.state not in "ZX" and not (one.comm == "pyjob-guard" and one.argv()[1:2] == ["cgroup"]):
                    procs.Identity(one.pid, one.started).end()
        return found
