#!/usr/bin/env python3
"""Builds the wheel, installs it into a fresh environment, and runs every test against it: `python3 tests/run.py`.

Needs Python (3.10 or later), a C compiler and a package index; works in a temporary folder, nothing is written into the
checkout. What is run, two lanes at a time:
    as it is        conformance and acceptance tests as the calling user
    once            all else as the calling user: the house, sanitizers, stress, CPython's own tests, …
    delegated       (as root on Linux) as an ordinary user inside a cgroup that belongs to that user
    no cgroup       (as root on Linux) as an ordinary user who may write no cgroup: the reaper is the default there
    contained       (as root on Linux) as an ordinary user in a PID namespace, with hidepid=2 and read-only cgroups
    filtered        (as root on Linux) under a seccomp filter that refuses clone3 and pidfd_open, as old kernels do
    windows         CPython for Windows under Wine, where Wine is installed (tests/windows/bed.py)
    windows pythons the same wheel on every other version of CPython for Windows: a few files, one version after another
Arguments go to pytest: `python3 tests/run.py -k names`, `python3 tests/run.py conformance/test_kill.py`.
Environment: PYJOB_REQUIRE_ALL=1 turns a missing means (Wine, nginx, a backend) into a failure; CI=true gives a failed
test one second look, named in the summary; PYJOB_TEST_LANES=delegated,windows chooses lanes; PYJOB_TEST_KEEP=1 keeps
the folder.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
LINUX = sys.platform.startswith("linux")
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
NOBODY = 65534
STRICT = bool(os.environ.get("PYJOB_REQUIRE_ALL"))
CI = bool(os.environ.get("CI"))
AT_A_TIME = 2
LANE_SECONDS = 45 * 60
PER_BACKEND = ("conformance", "acceptance")  # what every lane runs
OTHER_PYTHONS = "3.10,3.12,3.13,3.13t,3.14"
ON_OTHER_PYTHONS = [
    *("windows/test_windows_wheel.py", "windows/test_article.py", "conformance/test_run_anywhere.py"),
    "conformance/test_members.py",
    *(f"conformance/test_cli.py::test_{name}" for name in ("backends", "demo")),
]
OF_ONE_SYSTEM = {"platform": LINUX, "windows": os.name == "nt"}  # folders, and whether they are for this one


@dataclass
class Lane:
    name: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    cgroup: Path | None = None
    user: bool = False  # runs as an ordinary user, to whom its folders belong
    log: Path = Path()
    seconds: float = 0.0
    code: int = -1
    note: str = ""

    @property
    def counts(self) -> Counter[str]:
        """The last line of each report of pytest, taken apart."""
        found: Counter[str] = Counter()
        for line in re.findall(r"^(\d+ [a-z]+\b.*) in [\d.]+s\b.*$", self.text, re.M):
            for number, word in re.findall(r"(\d+) (passed|failed|errors?|skipped|rerun|xfailed|deselected)\b", line):
                found[word.removesuffix("s") if word.startswith("error") else word] += int(number)
        return found

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def skips(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for number, reason in re.findall(r"^SKIPPED \[(\d+)\] [^ ]+: (.*)$", self.text, re.M):
            found[reason] += int(number)
        return found


def say(text: str) -> None:
    print(text, flush=True)


def call(*command: str | Path, **options: object) -> None:
    """A step of the preparation; its output is shown only when it fails."""
    result = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,  # type: ignore[call-overload]
    )
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stdout}\nfailed with {result.returncode}")


# ---- preparation


def as_nobody(command: list[str]) -> list[str]:
    """By way of env(1): setpriv itself executes with root's rights left, and could start what the user cannot."""
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env", *command]


def interpreter(work: Path, lines: list[str]) -> str:
    """One that an ordinary user can run as well: root's own (pyenv below /root) is copied to where they may read it."""
    if not (LINUX and ROOT and shutil.which("setpriv")):
        return sys.executable
    probe = ["-c", "import sys, ssl, ctypes"]
    base = Path(sys.base_prefix)
    original = getattr(sys, "_base_executable", sys.executable)
    if subprocess.run(as_nobody([original, *probe]), cwd="/", capture_output=True).returncode == 0:
        return sys.executable
    copy = work / "python"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    shutil.copytree(base, copy, symlinks=True, ignore=shutil.ignore_patterns("site-packages", "__pycache__", "*.a"))
    (copy / "lib" / version / "site-packages").mkdir(exist_ok=True)
    python = copy / "bin" / version
    relocate(python, base / "lib")
    if subprocess.run(as_nobody([str(python), *probe]), cwd="/", capture_output=True).returncode == 0:
        lines.append(f"the interpreter was copied from {base}, which only root can read")
        return str(python)
    lines.append(f"no interpreter that an ordinary user can run: {base} is unreadable, and a copy does not start")
    return sys.executable


def relocate(program: Path, library: Path) -> None:
    """A Python built with a shared library looks for it where it was installed: make that relative to the program.

    By hand, because LD_LIBRARY_PATH is lost to the tests' daemons, whose environment is empty."""
    old = str(library).encode() + b"\0"
    new = b"$ORIGIN/../lib\0"
    if len(new) <= len(old):
        program.write_bytes(program.read_bytes().replace(old, new.ljust(len(old), b"\0")))


def build(work: Path, python: str) -> Path:
    """The fresh environment with the wheel of this checkout in it; returns its interpreter."""
    venv = work / "venv"
    call(python, "-m", "venv", venv)
    inside = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    call(inside, "-m", "pip", "install", "-q", "-r", CHECKOUT / "tests" / "requirements.txt")
    source = work / "source"
    skip = shutil.ignore_patterns(".git", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "*.so")
    shutil.copytree(CHECKOUT, source, ignore=skip, symlinks=True)
    call(inside, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", work / "wheel", source)
    call(inside, "-m", "pip", "install", "-q", "--no-deps", *(work / "wheel").glob("*.whl"))
    shutil.copytree(CHECKOUT / "tests", work / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    return inside


def immune(work: Path) -> dict[str, str]:
    """The setuid program of the test for survivors."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        return {}
    program = work / "immune"
    call(compiler, "-O1", "-D_GNU_SOURCE", "-o", program, CHECKOUT / "tests" / "helpers" / "immune.c")
    program.chmod(0o4755)
    return {"PYJOB_TEST_IMMUNE": str(program)}


def own_cgroup() -> Path | None:
    sys.path[:0] = [str(CHECKOUT / "tests")]
    from helpers.leftovers import own_cgroup as find

    return find()


# ---- lanes


def lanes(work: Path, python: Path, arguments: list[str], lines: list[str]) -> list[Lane]:
    chosen = [
        one for one in arguments if not one.startswith("-") and (CHECKOUT / "tests" / one.split("::")[0]).exists()
    ]
    options = [one for one in arguments if one not in chosen]
    shown = ["-q", "-raR", "--durations=12", "--color=no"]
    options = ["-p", "no:cacheprovider", *shown, *(["--reruns", "1"] if CI else []), *options]
    here = sorted(one.name for one in (CHECKOUT / "tests").iterdir() if one.is_dir() and any(one.rglob("test_*.py")))
    on_windows = [one for one in here if one != "platform"]
    everything = [one for one in here if OF_ONE_SYSTEM.get(one, True)]
    everywhere = [one for one in PER_BACKEND if one in everything]
    pytest = [str(python), "-m", "pytest", *options]

    once = [one for one in everything if one not in everywhere]
    found = [Lane("as it is", [*pytest, *(chosen or everywhere)])]
    if once and not chosen:
        found.insert(0, Lane("once", [*pytest, *once]))  # as long as all others together
    if LINUX:
        cgroup = own_cgroup()
        base = cgroup / f"pyjob-run-{os.getpid()}" if cgroup and os.access(cgroup, os.W_OK) else None
        if base:
            for one in found:
                one.cgroup = base / one.name.replace(" ", "-")
        if not ROOT or not shutil.which("setpriv"):
            lines.append("only root can run the suite as another user: the lanes of an ordinary user are left out")
        else:
            extra = immune(work)
            if base:
                found.append(
                    Lane(
                        "delegated",
                        as_nobody([*pytest, *(chosen or everywhere)]),
                        {"PYJOB_TEST_BACKENDS": "cgroup", **extra},
                        base / "delegated",
                        True,
                    )
                )
            else:
                lines.append("no writable cgroup: the delegated lane is left out")
            found.append(
                Lane(
                    "no cgroup",
                    as_nobody([*pytest, *(chosen or everywhere)]),
                    {"PYJOB_TEST_BACKENDS": "reaper,process-group", **extra},
                    base / "no-cgroup" if base else None,
                    True,
                )
            )
            unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
            contained = [*unshare, str(python), str(work / "tests" / "helpers" / "contained.py")]
            found.append(
                Lane(
                    "contained",
                    [*contained, *as_nobody([*pytest, *(chosen or everywhere)])],
                    {"PYJOB_TEST_BACKENDS": "reaper,process-group", **extra},
                    base / "contained" if base else None,
                    True,
                )
            )
            old = [str(python), str(work / "tests" / "helpers" / "filtered.py"), *pytest, *(chosen or everywhere[:1])]
            found.append(
                Lane(
                    "filtered",
                    old,
                    {"PYJOB_TEST_FILTERED": "1", "PYJOB_TEST_BACKENDS": "cgroup,reaper"},
                    base / "filtered" if base else None,
                )
            )
    bed = CHECKOUT / "tests" / "windows" / "bed.py"
    if bed.exists() and os.name != "nt":
        start = [str(python), str(bed), *(["--required"] if STRICT else [])]
        under_wine = ["pytest", *options[2:]]
        paths = [one for one in chosen if not one.startswith("platform")]
        if paths or not chosen:
            found.insert(1, Lane("windows", [*start, *under_wine, *(paths or on_windows)]))
        if not chosen:
            others = [*start, "--python", OTHER_PYTHONS, *under_wine, *ON_OTHER_PYTHONS]
            # Among the long ones first, but after the lane with which it shares a Wine prefix.
            found.insert(3, Lane("windows pythons", others))
    wanted = [one for one in os.environ.get("PYJOB_TEST_LANES", "").split(",") if one]
    return [one for one in found if not wanted or one.name in wanted]


def prepare(lane: Lane, work: Path) -> dict[str, str]:
    """Folders, cgroup and environment of a lane."""
    folder = work / lane.name.replace(" ", "-")
    lane.log = work / f"{folder.name}.log"
    for part in (folder, folder / "home", folder / "tmp"):
        part.mkdir()
    if lane.cgroup:
        lane.cgroup.mkdir(parents=True)
    if lane.user:
        for part in (folder, folder / "home", folder / "tmp"):
            os.chown(part, NOBODY, NOBODY)
    if lane.name == "delegated" and lane.cgroup:
        for part in ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
            os.chown(lane.cgroup / part, NOBODY, NOBODY)
    strip = ("PYJOB_TEST_TOKEN", "XDG_RUNTIME_DIR", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")
    env = {key: value for key, value in os.environ.items() if key not in strip}
    if lane.name.startswith("windows"):
        return env
    env.update(
        HOME=str(folder / "home"),
        TMPDIR=str(folder / "tmp"),
        PYTHONDONTWRITEBYTECODE="1",
        PYJOB_SOURCE=str(work / "source"),
    )
    env.setdefault("PYJOB_STRESS_SECONDS", "4")  # a short look; the 30 s are for a machine of one's own
    env.update(lane.env)
    if lane.cgroup and lane.name not in ("no cgroup", "contained"):
        env["PYJOB_TEST_CGROUP"] = "1"
    return env


def enter(lane: Lane) -> None:
    """In the child: its own cgroup, and signals as a login shell would have left them."""
    if lane.cgroup:
        (lane.cgroup / "cgroup.procs").write_text("0")
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def sweep(lane: Lane) -> None:
    """Whoever is left in the lane's cgroup fails it, and is ended."""
    if not lane.cgroup or not lane.cgroup.is_dir():
        return
    from helpers.leftovers import members

    end = time.monotonic() + 15
    while members(lane.cgroup) and time.monotonic() < end:
        time.sleep(0.05)
    left = members(lane.cgroup)
    if left:
        names = []
        for pid in sorted(left):
            try:
                names.append(
                    f"{pid} "
                    + Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
                )
            except OSError:
                continue
        lane.note = f"{len(left)} processes were left in its cgroup: {names}"
        lane.code = lane.code or 1
        (lane.cgroup / "cgroup.kill").write_text("1")
        while members(lane.cgroup) and time.monotonic() < end + 15:
            time.sleep(0.05)
    for folder, _, _ in os.walk(lane.cgroup, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            pass


def run(lane: Lane, work: Path) -> None:
    begin = time.monotonic()
    env = prepare(lane, work)
    options = {"preexec_fn": lambda: enter(lane), "start_new_session": True} if os.name == "posix" else {}
    with open(lane.log, "wb") as log:
        cwd = CHECKOUT / "tests" if lane.name.startswith("windows") else work / "tests"
        process = subprocess.Popen(
            lane.command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            **options,  # type: ignore[call-overload]
        )
        running.append(process)
        try:
            lane.code = process.wait(LANE_SECONDS)
        except subprocess.TimeoutExpired:
            lane.note = f"not done after {LANE_SECONDS} s"
            lane.code = 124
            process.kill()
            process.wait()
        finally:
            running.remove(process)
    sweep(lane)
    lane.seconds = time.monotonic() - begin
    if lane.code == 5:
        lane.code, lane.note = 0, "no test was selected"


running: list[subprocess.Popen[bytes]] = []


def run_all(todo: list[Lane], work: Path) -> None:
    waiting: queue.SimpleQueue[Lane] = queue.SimpleQueue()
    for one in todo:
        waiting.put(one)

    def worker() -> None:
        while True:
            try:
                lane = waiting.get_nowait()
            except queue.Empty:
                return
            say(f"--- {lane.name}: started")
            try:
                run(lane, work)
            except Exception as error:
                lane.code, lane.note = 1, f"the runner failed: {error!r}"
            say(f"--- {lane.name}: {'passed' if lane.code == 0 else 'FAILED'} after {lane.seconds:.0f} s")

    threads = [threading.Thread(target=worker, daemon=True) for _ in range(AT_A_TIME)]
    for one in threads:
        one.start()
    for one in threads:
        while one.is_alive():
            one.join(0.5)  # so that Ctrl-C is heard


def summary(todo: list[Lane], lines: list[str], seconds: float) -> int:
    for lane in todo:
        say(f"\n================ {lane.name} ================\n{lane.text.rstrip()}")
    say("\n================ what ran where ================")
    for line in lines:
        say(f"note: {line}")
    total: Counter[str] = Counter()
    for lane in todo:
        counts = lane.counts
        total += counts
        told = ", ".join(
            f"{counts[word]} {word}" for word in ("passed", "failed", "error", "skipped", "rerun") if counts[word]
        )
        say(
            f"{lane.name}: {told or 'nothing counted'}; exit {lane.code}, {lane.seconds:.0f} s"
            + (f"; {lane.note}" if lane.note else "")
        )
        for reason, number in lane.skips.most_common():
            say(f"    {number} skipped: {reason}")
        for line in re.findall(r"^(?:RERUN|FAILED|ERROR) .*$", lane.text, re.M):
            say(f"    {line[:300]}")
    bad = [one for one in todo if one.code != 0]
    failed = total["failed"] + total["error"] + sum(1 for one in bad if not one.counts["failed"] + one.counts["error"])
    reruns = f", {total['rerun']} rerun" if total["rerun"] else ""
    say(f"\n{total['passed']} passed, {failed} failed, {total['skipped']} skipped{reruns} in {seconds:.0f} s")
    return 1 if bad or failed else 0


def main() -> int:
    if sys.version_info < (3, 10):  # noqa: UP036  (this is who tells)
        sys.exit("Python 3.10 or later is needed")
    begin = time.monotonic()
    lines: list[str] = []
    work = Path(tempfile.mkdtemp(prefix="pyjob-run-"))
    work.chmod(0o755)
    os.umask(0o022)
    todo: list[Lane] = []
    try:
        say(f"building and installing the wheel in {work}")
        python = build(work, interpreter(work, lines))
        todo = lanes(work, python, sys.argv[1:], lines)
        run_all(todo, work)
        return summary(todo, lines, time.monotonic() - begin)
    finally:
        for process in list(running):
            process.kill()
            process.wait()
        for lane in todo:
            if lane.cgroup:
                sweep(lane)
        for folder in {one.cgroup.parent for one in todo if one.cgroup}:
            if folder.is_dir():
                folder.rmdir()
        if not os.environ.get("PYJOB_TEST_KEEP"):
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
