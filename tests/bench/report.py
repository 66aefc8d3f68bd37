"""Tables, the verdicts on the figures, and the plot."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path

from blocks import Spread, ratio, spread
from cases import DEEP, Row

NAMES = {"cgroup": "pyjob, cgroup", "reaper": "pyjob, reaper", "process-group": "pyjob, process group",
         "psutil": "psutil, its documentation's recipe", "killpg": "os.killpg", "/proc loop": "Python loop over /proc",
         "floor": "C: write cgroup.kill, poll"}  # fmt: skip


@dataclass
class Figure:
    what: str
    measured: str
    bound: str
    verdict: str


def verdict(found: Spread, bound: float, at_least: bool = False) -> str:
    """A bound within the quartiles is not called reached, even where the median is on the right side of it."""
    low, high = (found.low >= bound, found.high >= bound) if at_least else (found.high <= bound, found.low <= bound)
    middle = found.middle >= bound if at_least else found.middle <= bound
    if low:
        return "reached"
    if high:
        return f"{'reached' if middle else 'missed'} by the median; the bound lies within the interval"
    factor = bound / found.middle if at_least else found.middle / bound
    return f"**missed** by {100 * (factor - 1):.0f} %"


def interval(found: Spread, unit: str = "") -> str:
    digits = 0 if found.middle >= 100 else 1 if found.middle >= 10 else 2 if found.middle >= 2 else 3
    low, middle, high = (f"{one:.{digits}f}" for one in found)
    return f"{middle}{unit} ({low} to {high})"


def duration(found: Spread) -> str:
    for factor, unit in ((1e6, " µs"), (1e3, " ms")):
        if found.middle * factor < 1000:
            return interval(found.times(factor), unit)
    return interval(found, " s")


class Results:
    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def find(
        self, case: str, contender: str, backend: str = "", shape: str = "", size: int = 0, strangers: int = 0
    ) -> list[float] | None:
        for row in self.rows:
            if (*row.setting(), row.contender, row.strangers) == (case, backend, shape, size, contender, strangers):
                return row.seconds
        return None


def kernel() -> tuple[int, int]:
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(one for one in minor if one.isdigit()))


def figures(found: Results) -> list[Figure]:
    made: list[Figure] = []

    def judge(
        what: str, value: Spread | None, bound: float | None, text: str, shown: str, at_least: bool = False
    ) -> None:
        if value is None:
            made.append(Figure(what, "not measured", text, "unknown"))
        else:
            told = verdict(value, bound, at_least) if bound is not None else "no bound"
            made.append(Figure(what, shown, text, told))

    def against(what: str, above: list[float] | None, below: list[float] | None, bound: float | None,
                at_least: bool = False) -> None:  # fmt: skip
        value = ratio(above, below) if above and below else None
        text = "" if bound is None else f"{'at least' if at_least else 'at most'} {bound:g}x"
        judge(what, value, bound, text, interval(value, "x") if value else "", at_least)

    def absolute(what: str, values: list[float] | None, factor: float, unit: str, bound: float) -> None:
        value = spread(values).times(factor) if values else None
        judge(what, value, bound, f"at most {bound:g}{unit}", interval(value, unit) if value else "")

    for backend, leaf, popens in (("cgroup", 100.0, 5.0), ("reaper", None, None), ("process-group", None, None)):
        for shape, bound, where in (("wide", leaf, "in one tree"), ("popens", popens, "each in its own Popen")):
            against(f"`pids()`, {backend}, 1,000 members {where}: faster than psutil by",
                    found.find("list", "psutil", backend, shape, 1000),
                    found.find("list", backend, backend, shape, 1000), bound, at_least=True)  # fmt: skip
    against("`pids()`, cgroup, 1,000 members: with 5,000 strangers against without",
            found.find("list", "cgroup", "cgroup", "wide", 1000, 5000),
            found.find("list", "cgroup", "cgroup", "wide", 1000), 1.1)  # fmt: skip
    against("`kill()`, cgroup, 1,000 members: with 5,000 strangers against without",
            found.find("kill", "cgroup", "", "wide", 1000, 5000),
            found.find("kill", "cgroup", "", "wide", 1000), 1.1)  # fmt: skip
    for contender, bound in (("floor", 1.1), ("killpg", None), ("psutil", None)):
        against(f"`kill()`, cgroup, 1,000 members, until all are dead: against {NAMES[contender]}",
                found.find("kill", "cgroup", "", "wide", 1000),
                found.find("kill", contender, "", "wide", 1000), bound)  # fmt: skip
    absolute("`pid in job`, cgroup", found.find("contains", "member", "cgroup"), 1e6, " µs",
             8 if kernel() >= (6, 13) else 15)  # fmt: skip
    absolute("`pid in job`, reaper, one level", found.find("contains", "member", "reaper"), 1e6, " µs", 10)
    absolute(f"`pid in job`, reaper, {DEEP} levels down, a level",
             found.find("contains", f"member {DEEP} levels down", "reaper"), 1e6 / DEEP, " µs", 10)  # fmt: skip
    for backend, start in (("cgroup", 1.05), ("reaper", 1.5), ("process-group", None)):
        against(f"`Popen`, {backend}, start to exit: against subprocess.Popen",
                found.find("start", backend, backend), found.find("start", "subprocess", backend), start)  # fmt: skip
        against(f"`Popen`, {backend}, start to exit: from an owner of 2 GiB against a small one",
                found.find("start, 2 GiB", backend, backend), found.find("start, 2 GiB", "small owner", backend),
                None if backend == "process-group" else 1.0)  # fmt: skip
    against("`import pyjob`: against import subprocess", found.find("import", "pyjob"),
            found.find("import", "subprocess"), 1.2)  # fmt: skip
    for backend in ("cgroup", "reaper"):
        absolute(f"guard, {backend}: resident memory", found.find("guard", backend, backend), 1 / 1024, " KiB", 64)
    made.append(Figure("strangers killed under PID reuse", "see tests/stress", "0", "tested there, not here"))
    return made


def machine() -> str:
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    where = ", in a virtual machine" if "hypervisor" in Path("/proc/cpuinfo").read_text() else ""
    return (
        f"{len(os.sched_getaffinity(0))} cores of {model}{where}; Linux {platform.release().split('-')[0]}, "
        f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}"
    )


def table(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def matrix(rows: list[Row], case: str) -> str:
    """Settings downwards, contenders across: medians and quartiles."""
    chosen = [
        replace(row, contender="pyjob") if row.contender == row.backend else row for row in rows if row.case == case
    ]
    contenders = list(dict.fromkeys(row.contender for row in chosen))
    settings = list(dict.fromkeys((row.backend, row.shape, row.size, row.strangers) for row in chosen))
    lines = []
    for setting in settings:
        cells = {row.contender: row.seconds for row in chosen
                 if (row.backend, row.shape, row.size, row.strangers) == setting}  # fmt: skip
        backend, shape, size, crowd = setting
        told = [duration(spread(cells[one])) if one in cells else "" for one in contenders]
        lines.append([backend, shape, f"{size:,}" if size else "", f"{crowd:,}" if crowd else "", *told])
    head = ["backend", "tree", "members", "strangers", *contenders]
    keep = [place for place in range(len(head)) if place > 3 or any(line[place] for line in lines)]
    return table([head[place] for place in keep], [[line[place] for place in keep] for line in lines])


TITLES = {
    "list": "Listing the members",
    "kill": "Killing until all are dead",
    "contains": "`pid in job`",
    "start": "`Popen` start to exit of /bin/true",
    "start, 2 GiB": "The same from an owner of 2 GiB",
    "import": "Import, in fresh interpreters",
}

HOW = """\
Contenders take turns in blocks of one run, every block begins with another one, and ratios are taken within a block.
Shown is the median, and in parentheses the quartiles; what takes long has fewer blocks. A chain of 5,000 is listed, but
not killed: the kernel takes a minute to end one, whoever asks for it. Members are processes of 20 lines of C that
sleep: `wide` (all children of one), `deep` (a chain), `mixed` (four children each), `popens` (each started by a `Popen`
of its own). Strangers are sleeping processes outside. Every list is checked to be complete before it is timed.
A killing ends, for ours, when `kill()` returns, which is after it has seen that all are dead; for the others at the end
of file of a pipe that all members hold, which costs them nothing; for the floor, as the C program says, without its own
start. psutil's recipe is that of its documentation with SIGKILL, without its wait for everybody to be reaped.
Under "list" psutil and the loop look at the same processes as ours; for `popens` each has its own, without the other's.
"""


def markdown(rows: list[Row], about: list[str], notes: list[str]) -> str:
    judged = figures(Results(rows))
    lines = [[one.what, one.measured, one.bound, one.verdict] for one in judged]
    parts = [
        "# Benchmarks\n",
        "Written by `python tests/bench/run.py --write-docs`; do not edit.\n",
        "".join(f"- {one}\n" for one in about),
        "![time against tree size](benchmarks.svg)\n",
        "## The figures\n",
        "*Reached* means that the whole interval is on the right side of the bound.\n",
        table(["figure", "measured", "bound", "verdict"], lines),
        "## How it is measured\n",
        HOW,
        *(f"- {one}\n" for one in notes),
    ]
    for case, title in TITLES.items():
        if any(row.case == case for row in rows):
            parts += [f"## {title}\n", matrix(rows, case)]
    wine = [row for row in rows if row.case.startswith("wine-")]
    if wine:
        parts.append("## Windows, under Wine: indicative only\n")
        lines = [[row.case.removeprefix("wine-"), row.contender, f"{row.size:,}", duration(spread(row.seconds))]
                 for row in wine]  # fmt: skip
        parts.append(table(["what", "contender", "members", "time"], lines))
    return "\n".join(parts)


STYLES = {"cgroup": ("#0b6e4f", "o-"), "reaper": ("#3fa34d", "s-"), "process-group": ("#a1c349", "^-"),
          "psutil": ("#c1292e", "v--"), "/proc loop": ("#f1a208", "d--"), "killpg": ("#6f4a8e", "x--"),
          "floor": ("#555555", "+:")}  # fmt: skip


def curve(rows: list[Row], case: str, contender: str) -> list[tuple[int, Spread]]:
    """Of the wide trees without strangers; what others need for a list, in the cgroup's setting."""
    wanted = {"list": (contender, "cgroup"), "kill": ("",)}[case]
    points = {}
    for row in rows:
        if (row.case, row.contender, row.shape, row.strangers) == (
            case,
            contender,
            "wide",
            0,
        ) and row.backend in wanted:
            points[row.size] = spread(row.seconds).times(1e3)
    return sorted(points.items())


def plot(rows: list[Row], paths: list[Path]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "pyjob"  # the same picture is the same file
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4.2), constrained_layout=True)
    titles = {"list": "list all members", "kill": "kill until all are dead"}
    for axes, (case, title) in zip(panels, titles.items(), strict=True):
        for contender, (color, style) in STYLES.items():
            points = curve(rows, case, contender)
            if points:
                sizes = [size for size, _ in points]
                middle = [one.middle for _, one in points]
                errors = [[one.middle - one.low for _, one in points], [one.high - one.middle for _, one in points]]
                axes.errorbar(sizes, middle, errors, fmt=style, color=color, label=NAMES[contender], capsize=2,
                              markersize=5, linewidth=1.3)  # fmt: skip
        axes.set(xscale="log", yscale="log", title=title, xlabel="members of the tree", ylabel="milliseconds")
        axes.grid(True, which="major", alpha=0.3)
        if axes.has_data():
            axes.legend(fontsize=8)
    for path in paths:
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=120)
    pyplot.close(figure)
