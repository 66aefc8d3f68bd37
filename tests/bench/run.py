"""All benchmarks: `python tests/bench/run.py [--quick] [--out DIR] [--write-docs]`.

Needs pyjob with its extra `bench` (`pip install '.[bench]'`) and a C compiler; measures the pyjob that is installed.
Writes results.json, results.md and time.png/.svg into DIR; with --write-docs also docs/benchmarks.md and .svg of this
checkout. About an hour on a quiet machine of two cores; a minute with --quick, whose numbers are only a sign that it
all works.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

CHECKOUT = Path(__file__).resolve().parent.parent.parent
CASES = ["list", "popens", "kill", "contains", "guard", "start", "import", "windows"]
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


# ---- the outer process: reaps what is orphaned at once (PID 1 of a container may take seconds, and who reads /proc
# reads zombies too), and ends what the inner one has left


def children() -> list[int]:
    return [int(one) for task in Path("/proc/self/task").iterdir() for one in (task / "children").read_text().split()]


def end_children(seconds: float) -> None:
    """A child that we have not reaped keeps its PID: nobody else can be hit."""
    end = time.monotonic() + seconds
    try:
        while True:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
            if time.monotonic() >= end:
                for pid in children():
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
    except ChildProcessError:
        pass


def watch() -> int:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    # A session of its own: Ctrl-C comes here alone, and is handed on once.
    command = [sys.executable, __file__, "--inner", *sys.argv[1:]]
    worker = subprocess.Popen(command, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: worker.send_signal(signal.SIGTERM))
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == worker.pid:
            worker.returncode = os.waitstatus_to_exitcode(status)
            break
    end_children(10.0)
    return abs(worker.returncode)


# ---- the inner process


def interrupted(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few blocks, small trees, few strangers")
    parser.add_argument("--out", type=Path, help="where the results go (default: a new folder in the temporary one)")
    parser.add_argument("--write-docs", action="store_true", help="docs/benchmarks.md and .svg as well")
    parser.add_argument("--sizes", help="of the trees, with commas between (default: 10,100,1000,5000)")
    parser.add_argument("--blocks", type=int, help="default: 20")
    parser.add_argument("--strangers", type=int, help="default: 5000")
    parser.add_argument("--only", action="append", choices=CASES, help="can be given more than once")
    parser.add_argument(
        "--with", dest="earlier", type=Path, metavar="JSON", help="report what an earlier run has measured as well"
    )
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="JSON", help="report these results; measure nothing"
    )
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.sizes = [int(one) for one in (given.sizes or ("10,100" if given.quick else "10,100,1000,5000")).split(",")]
    given.blocks = given.blocks or (2 if given.quick else 20)
    given.strangers = given.strangers if given.strangers is not None else (50 if given.quick else 5000)
    return given


def measure(given: argparse.Namespace, folder: Path, save: Any) -> None:
    """Calls save(rows, notes) after each case, so that what takes long is not lost."""
    import cases
    from blocks import spread
    from report import duration
    from trees import Programs

    import pyjob

    def tell(row: cases.Row) -> None:
        where = f"{row.case:9} {row.backend:14} {row.shape:7} {row.size or '':>5} {row.strangers or '':>5}"
        shown = f"{spread(row.seconds).middle / 1024:.0f} KiB" if row.case == "guard" else duration(spread(row.seconds))
        print(f"{where} {row.contender:24} {shown}", flush=True)

    notes: list[str] = []
    available = [one.name for one in pyjob.backends() if one.available]
    for one in pyjob.backends():
        if not one.available:
            notes.append(f"{one.name} is not available here: {one.why}")
    shapes = ["wide", "mixed"] if given.quick else ["wide", "deep", "mixed"]
    plan = cases.Plan(Programs(folder), available, given.sizes, shapes, given.strangers, given.blocks, tell)
    steps = {
        "list": lambda: cases.listing(plan),
        "popens": lambda: cases.listing_singles(plan),
        "kill": lambda: cases.killing(plan),
        "contains": lambda: cases.containing(plan),
        "guard": lambda: cases.guards(plan),
        "start": lambda: cases.starting(plan, large=not given.quick),
        "import": lambda: cases.importing(plan),
    }
    rows = [cases.Row(**one) for one in json.loads(given.earlier.read_text())["rows"]] if given.earlier else []
    if rows:
        notes.append(f"by an earlier run: {', '.join(sorted({row.case for row in rows}))}")
    chosen = given.only or [one for one in CASES if not (given.quick and one == "windows")]
    for name, step in steps.items():
        if name in chosen:
            rows += step()
            save(rows, notes)
    if "windows" in chosen:
        found, why = cases.windows(plan)
        rows += found
        notes += [f"nothing was measured under Wine: {why}"] if why else []
    elif not any(row.case.startswith("wine") for row in rows):
        notes.append("nothing was measured under Wine")
    save(rows, notes)


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def about(given: argparse.Namespace, before: str) -> list[str]:
    import psutil
    from report import machine

    import pyjob

    today = time.strftime("%Y-%m-%d", time.gmtime())
    lines = [
        f"{machine()}; pyjob {pyjob.__version__}, psutil {psutil.__version__}; {today}",
        f"{given.blocks} blocks; load of the machine {before} before and {load()} after (the benchmark's own included)",
    ]
    if given.quick:
        lines.append("**a quick run: its numbers only show that the benchmarks work**")
    return lines


def report(found: dict[str, Any], out: Path, docs: bool) -> None:
    from cases import Row
    from report import markdown, plot

    rows = [Row(**one) for one in found["rows"]]
    text = markdown(rows, found["about"], found["notes"])
    (out / "results.md").write_text(text.replace("(benchmarks.svg)", "(time.svg)"))
    if importlib.util.find_spec("matplotlib"):
        plot(rows, [out / "time.png", out / "time.svg"])
    elif docs:
        sys.exit("matplotlib is not installed (the extra `bench`)")
    else:
        print("no plot: matplotlib is not installed (the extra `bench`)")
    if docs:
        (CHECKOUT / "docs" / "benchmarks.md").write_text(text)
        shutil.copy(out / "time.svg", CHECKOUT / "docs" / "benchmarks.svg")
    print(f"\nthe results are in {out}")


def main() -> int:
    given = arguments()
    if not given.inner and not given.source:
        return watch()
    out: Path = (given.out or Path(tempfile.mkdtemp(prefix="pyjob-bench-"))).resolve()
    out.mkdir(parents=True, exist_ok=True)
    if given.source:
        report(json.loads(given.source.read_text()), out, given.write_docs)
        return 0

    signal.signal(signal.SIGTERM, interrupted)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # 1,000 Popens
    before = load()

    def save(rows: list[Any], notes: list[str]) -> None:
        found = {"about": about(given, before), "notes": notes, "rows": [asdict(one) for one in rows]}
        (out / "results.json").write_text(json.dumps(found, indent=1))

    try:
        with tempfile.TemporaryDirectory(prefix="pyjob-bench-programs-") as folder:
            measure(given, Path(folder), save)
    except KeyboardInterrupt:
        print("interrupted; all that was started is ended", file=sys.stderr)
        return 130
    report(json.loads((out / "results.json").read_text()), out, given.write_docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
