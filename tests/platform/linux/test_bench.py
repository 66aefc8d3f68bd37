"""The benchmarks run, at their smallest, and their verdicts can be bad ones. What they measure is not judged here."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pyjob

BENCH = Path(__file__).resolve().parents[2] / "bench"
COMMAND = [sys.executable, str(BENCH / "run.py"), "--quick", "--sizes", "10"]
pytestmark = pytest.mark.tool("cc")


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import report

    return report


def test_a_quick_run(folder):
    """As the README has it: in a checkout, whose pyjob is not the installed one."""
    (folder / "pyjob").mkdir()
    (folder / "pyjob/__init__.py").write_text("raise ImportError")
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "cwd": folder}
    done = subprocess.run([*COMMAND, "--out", str(folder)], **options)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((folder / "results.json").read_text())
    assert {row["case"] for row in found["rows"]} == {"list", "kill", "contains", "guard", "start", "import"}
    assert all(len(row["seconds"]) == 2 and min(row["seconds"]) > 0 for row in found["rows"])
    available = {one.name for one in pyjob.backends() if one.available}
    floor = {"floor"} if "cgroup" in available else set()
    killers = {row["contender"] for row in found["rows"] if row["case"] == "kill"}
    assert killers == {*available, *floor, "psutil", "killpg"}
    assert "| figure | measured | bound | verdict |" in (folder / "results.md").read_text()
    if importlib.util.find_spec("matplotlib"):
        assert "<svg" in (folder / "time.svg").read_text()


def test_ctrl_c_ends_all_that_was_started(folder):
    """The look for leftovers after every test is what sees it."""
    command = [*COMMAND[:-1], "100", "--out", str(folder), "--only", "kill", "--blocks", "500"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        end = time.monotonic() + 60
        while len(pyjob.children(run.pid, recursive=True)) < 20:  # a tree is being made, or made
            assert run.poll() is None and time.monotonic() < end
            time.sleep(0.01)
        os.kill(run.pid, signal.SIGINT)
        told = run.communicate(timeout=60)[1]
    assert run.returncode == 130 and "interrupted" in told


def test_verdicts(report):
    spread = report.Spread
    assert report.verdict(spread(0.9, 1.0, 1.05), 1.1) == "reached"
    assert report.verdict(spread(0.9, 1.0, 1.2), 1.1).startswith("reached by the median")
    assert report.verdict(spread(1.0, 1.2, 1.3), 1.1).startswith("missed by the median")
    assert report.verdict(spread(1.2, 1.65, 1.7), 1.1) == "**missed** by 50 %"
    assert report.verdict(spread(90, 110, 120), 100, at_least=True).startswith("reached by the median")
    assert report.verdict(spread(40, 50, 60), 100, at_least=True) == "**missed** by 100 %"
