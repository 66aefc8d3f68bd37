"""What is measured. Each case adds rows: one contender's seconds in each block of one setting."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
import start
from blocks import Measure, alternate, repeated
from trees import HERE, Programs, singles, strangers, tree

ROOT_SIZE = 1  # `pid in job` in a shallow tree: the root alone
PYWIN32 = "pywin32==308"
DEEP = 10  # … and at the bottom of a chain


@dataclass
class Row:
    case: str
    contender: str
    seconds: list[float]  # in the case "guard": bytes
    backend: str = ""
    shape: str = ""
    size: int = 0
    strangers: int = 0

    def setting(self) -> tuple[str, str, str, int]:
        return self.case, self.backend, self.shape, self.size


@dataclass
class Plan:
    programs: Programs
    backends: list[str]
    sizes: list[int]
    shapes: list[str]
    strangers: int
    blocks: int
    tell: Callable[[Row], None]

    def crowds(self, shape: str) -> list[int]:
        """How many strangers there are: both ways for the wide trees."""
        return [0, self.strangers] if shape == "wide" and self.strangers else [0]

    def take(self, rows: Iterable[Row]) -> list[Row]:
        found = list(rows)
        for row in found:
            self.tell(row)
        return found


Contenders = dict[str, Measure]


PATIENCE = 120.0  # seconds for the blocks of a case
DEEPEST_KILLED = 1000


def crowded(plan: Plan, crowds: list[int], contenders: Contenders) -> dict[tuple[str, int], list[float]]:
    """All contenders in each block, with and without strangers in turn; fewer blocks where they take too long."""
    found: dict[tuple[str, int], list[float]] = {(name, crowd): [] for name in contenders for crowd in crowds}
    end = time.monotonic() + PATIENCE
    for block in range(plan.blocks):
        if block > 0 and time.monotonic() > end:
            break
        for crowd in crowds if block % 2 == 0 else crowds[::-1]:
            with strangers(plan.programs, crowd):
                names = list(contenders)
                for turn in range(len(names)):
                    name = names[(block + turn) % len(names)]
                    if crowd == crowds[0] and block == 0:
                        contenders[name]()  # warm
                    found[name, crowd].append(contenders[name]())
    return found


def rows_of(found: dict[tuple[str, int], list[float]], *setting: Any) -> list[Row]:
    case, backend, shape, size = setting
    return [Row(case, name, seconds, backend, shape, size, crowd) for (name, crowd), seconds in found.items()]


# ---- listing


def complete(look: Callable[[], Iterable[int]], expected: set[int]) -> Measure:
    """A quick answer that is wrong is none."""
    found = set(look())
    if found != expected:
        raise AssertionError(f"{len(found - expected)} too many, {len(expected - found)} missing")
    return repeated(look)


def listing(plan: Plan) -> list[Row]:
    rows: list[Row] = []
    for size in plan.sizes:
        for shape in plan.shapes:
            for backend in plan.backends:
                with tree(plan.programs, shape, size, backend) as (one, job):
                    assert job is not None
                    pid, everybody = one.pid, set(peers.proc_list(one.pid))
                    if len(everybody) != size:
                        raise AssertionError(f"{len(everybody)} processes instead of {size}")
                    looks: dict[str, Callable[[], Iterable[int]]] = {
                        backend: job.pids,
                        "psutil": lambda pid=pid: peers.psutil_list(pid),  # type: ignore[misc]
                        "/proc loop": lambda pid=pid: peers.proc_list(pid),  # type: ignore[misc]
                    }
                    contenders = {name: complete(look, everybody) for name, look in looks.items()}
                    found = crowded(plan, plan.crowds(shape), contenders)
                rows += plan.take(rows_of(found, "list", backend, shape, size))
    return rows


def listing_singles(plan: Plan) -> list[Row]:
    """Each member in a Popen of its own. Neither contender has the other's processes to look at."""
    rows: list[Row] = []
    for size in (one for one in plan.sizes if one <= 1000):
        for backend in plan.backends:

            def ours(size: int = size, backend: str = backend) -> float:
                with singles(plan.programs, size, backend) as job:
                    assert job is not None and len(job.pids()) == size
                    return repeated(job.pids)()

            def theirs(size: int = size) -> float:
                with singles(plan.programs, size):
                    own = os.getpid()
                    assert len(peers.psutil_list(own)) == size + 1
                    return repeated(lambda: peers.psutil_list(own))()

            our_times, their_times = alternate(plan.blocks, ours, theirs)
            found = {(backend, 0): our_times, ("psutil", 0): their_times}
            rows += plan.take(rows_of(found, "list", backend, "popens", size))
    return rows


# ---- killing


def killing(plan: Plan) -> list[Row]:
    """Until all are dead: for ours when kill() returns, for others at the end of file of what all members hold."""
    rows: list[Row] = []

    def ours(shape: str, size: int, backend: str) -> Measure:
        def measure() -> float:
            with tree(plan.programs, shape, size, backend) as (_, job):
                assert job is not None
                begin = time.perf_counter()
                job.kill(timeout=60)
                return time.perf_counter() - begin

        return measure

    def theirs(shape: str, size: int, kill: Callable[[int], None]) -> Measure:
        def measure() -> float:
            with tree(plan.programs, shape, size) as (one, _):
                begin = time.perf_counter()
                kill(one.pid)
                one.await_end()
                return time.perf_counter() - begin

        return measure

    def floor(shape: str, size: int) -> Measure:
        def measure() -> float:
            with tree(plan.programs, shape, size, "cgroup") as (one, _):
                return peers.floor_kill(plan.programs.floor, one.cgroup())

        return measure

    for size in plan.sizes:
        for shape in plan.shapes:
            if shape == "deep" and size > DEEPEST_KILLED:
                continue  # a chain of 5,000 forks takes the kernel a minute to make and one to end, whoever asks for it
            contenders = {backend: ours(shape, size, backend) for backend in plan.backends}
            if "cgroup" in plan.backends:
                contenders["floor"] = floor(shape, size)
            contenders["psutil"] = theirs(shape, size, peers.psutil_kill)
            contenders["killpg"] = theirs(shape, size, peers.group_kill)
            found = crowded(plan, plan.crowds(shape), contenders)
            rows += plan.take(rows_of(found, "kill", "", shape, size))
    return rows


# ---- one process


def containing(plan: Plan) -> list[Row]:
    """`pid in job`, of a member at the top, of one ten levels down, and of a stranger."""
    rows: list[Row] = []
    with tree(plan.programs, "wide", 1) as (stranger, _):
        for backend in plan.backends:
            with (
                tree(plan.programs, "deep", ROOT_SIZE, backend) as (top, shallow),
                tree(plan.programs, "deep", DEEP, backend) as (chain, deep),
            ):
                assert shallow is not None and deep is not None
                bottom = peers.proc_list(chain.pid)[-1]
                assert top.pid in shallow and bottom in deep and stranger.pid not in shallow
                times = alternate(
                    plan.blocks,
                    repeated(lambda job=shallow, pid=top.pid: pid in job, batch=20),  # type: ignore[misc]
                    repeated(lambda job=deep, pid=bottom: pid in job, batch=20),  # type: ignore[misc]
                    repeated(lambda job=shallow: stranger.pid in job, batch=20),  # type: ignore[misc]
                )
            names = ("member", f"member {DEEP} levels down", "stranger")
            found = {(name, 0): seconds for name, seconds in zip(names, times, strict=True)}
            rows += plan.take(rows_of(found, "contains", backend, "", 0))
    return rows


def guard_of(pid: int, kind: str) -> int:
    """The guard that belongs to us: the program's parent, or the one that holds a pidfd of this process."""
    if kind == "reaper":
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    for guard in Path("/proc").glob("[0-9]*"):
        try:
            if (guard / "comm").read_text() != "pyjob-guard\n":
                continue
            if any(f"\nPid:\t{os.getpid()}\n" in one.read_text() for one in (guard / "fdinfo").iterdir()):
                return int(guard.name)
        except OSError:
            continue  # ended meanwhile, or another user's
    raise LookupError("no guard of ours")


def guards(plan: Plan) -> list[Row]:
    """Resident memory in bytes, of one guard each."""
    rows: list[Row] = []
    for backend in (one for one in plan.backends if one != "process-group"):
        sizes = []
        for _ in range(plan.blocks):
            with tree(plan.programs, "wide", 1, backend) as (one, _job):
                guard = guard_of(one.pid, backend)
                if Path(f"/proc/{guard}/comm").read_text() != "pyjob-guard\n":
                    raise LookupError(f"process {guard} is no guard")
                text = Path(f"/proc/{guard}/smaps_rollup").read_text()
                sizes.append(1024.0 * int(next(x.split()[1] for x in text.splitlines() if x.startswith("Rss:"))))
        rows += plan.take([Row("guard", backend, sizes, backend)])
    return rows


# ---- starting


def starting(plan: Plan, large: bool) -> list[Row]:
    rows: list[Row] = []
    for backend in plan.backends:
        for one in start.measure(backend, ["small", "large"] if large else ["small"], plan.blocks):
            case = "start" if one["case"] == "small" else "start, 2 GiB"
            found = {("subprocess", 0): one["stock"], (backend, 0): one["ours"]}
            if "small" in one:
                found["small owner", 0] = one["small"]
            rows += rows_of(found, case, backend, "", 0)
    return rows


def importing(plan: Plan) -> list[Row]:
    times = alternate(plan.blocks, lambda: start.importing("subprocess", 3), lambda: start.importing("pyjob", 3))
    found = {("subprocess", 0): times[0], ("pyjob", 0): times[1]}
    return plan.take(rows_of(found, "import", "", "", 0))


# ---- Windows


def windows(plan: Plan) -> tuple[list[Row], str]:
    """Under Wine, in one process there: rows, or the reason why there are none."""
    bed = HERE.parent / "windows" / "bed.py"
    with tempfile.TemporaryDirectory(prefix="pyjob-bench-pywin32-") as folder:
        fetch = ["-m", "pip", "download", "-q", "--no-deps", "--platform", "win_amd64", "--python-version", "3.11"]
        fetch += ["--only-binary=:all:", "--dest", folder, PYWIN32]
        got = subprocess.run([sys.executable, *fetch], capture_output=True, text=True)
        if got.returncode:
            return [], f"{PYWIN32} cannot be had: {got.stderr.strip().splitlines()[-1]}"
        for wheel in Path(folder).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
        command = [sys.executable, str(bed), "--python", "3.11", "--limit", "900", "exec", f"Z:{HERE / 'windows.py'}"]
        done = subprocess.run(
            [*command, f"Z:{folder}", str(plan.blocks)], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    rows: list[Row] = []
    for line in done.stdout.splitlines():
        if line.startswith("row "):
            case, contender, size, *seconds = line.split()[1:]
            rows.append(Row(case, contender, [float(one) for one in seconds], "job-object", "wide", int(size)))
    if done.returncode or not rows:
        return [], (done.stdout + done.stderr).strip().splitlines()[-1] if done.stdout + done.stderr else "no output"
    return plan.take(rows), ""
