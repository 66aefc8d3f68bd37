"""The documentation site builds without a warning, and nothing public is missing in it."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyjob

SOURCE = Path(os.environ.get("PYJOB_SOURCE", Path(__file__).resolve().parents[2]))
pytestmark = pytest.mark.skipif(not (SOURCE / "docs" / "conf.py").is_file(), reason="no sources here (PYJOB_SOURCE)")
pytest.importorskip("sphinx", reason="needs Sphinx")
pytest.importorskip("myst_parser", reason="needs myst-parser")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-n",
        "-q",
        "-d",
        folder / "doctrees",
        SOURCE / "docs",
    ]
    done = subprocess.run([*map(str, command), folder / "html"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


def test_it_has_every_page(site):
    pages = {one.stem for one in (SOURCE / "docs").glob("*.md")}
    assert pages <= {one.stem for one in site.glob("*.html")}


def test_it_has_every_public_name(site):
    text = (site / "api.html").read_text()
    assert not [name for name in pyjob.__all__ if f'id="pyjob.{name}"' not in text]
    methods = [name for name in vars(pyjob.Job) if not name.startswith("_")]
    assert not [name for name in methods if f'id="pyjob.Job.{name}"' not in text]


def test_lists_in_docstrings_are_lists(site):
    text = html.unescape(re.sub(r"<[^>]+>", "", (site / "api.html").read_text()))
    assert re.search(r"kill_on_close\s*the members end with the job", text)


def test_the_command_line_is_told_as_it_is():
    from pyjob import cli

    page = (SOURCE / "docs" / "cli.md").read_text()
    assert cli.USAGE in page
    assert cli.HELP.lstrip("\n") in page


CLASS = r"(?:\w+Error|TimeoutExpired|CompletedProcess|ProcessHandle)\b"
SYSTEM_CALL = rf"\w+\(\d\)|cgroup\.\w+|\b(?!{CLASS})[A-Z][a-z]+[A-Z]\w+|SIGKILL"
ERROR = r"\w+Error|TimeoutExpired|Raises nothing|Nothing happens"
ELSEWHERE = r"Job\.\w+\(\)|As `subprocess|of run\(\)"  # where more is told
SECONDS = r"seconds|[( ]\d+ s\b"
WAITS = {
    "Job.stop", "Job.kill", "Job.wait", "Job.close", "Job.run", "Popen.kill", "Popen.stop", "ProcessHandle.wait",
    "run", "call", "check_call", "check_output", "kill_tree",
}  # fmt: skip
READ_ONLY = {"name", "parent", "backend", "closed", "guarantees", "job", "pid", "pinned", "create_time"}


def operations():
    for owner in (pyjob.Job, pyjob.Popen, pyjob.ProcessHandle):
        yield owner.__name__, owner
        for name, value in vars(owner).items():
            if not name.startswith("_") and name not in READ_ONLY and getattr(value, "__doc__", None):
                yield f"{owner.__name__}.{name}", value
    for name in ("run", "call", "check_call", "check_output", "children", "kill_tree", "backends"):
        yield name, getattr(pyjob, name)


@pytest.mark.parametrize(("name", "thing"), operations())
def test_docstrings_name_errors_and_system_calls(name, thing):
    for what in (f"{SYSTEM_CALL}|{ELSEWHERE}", f"{ERROR}|{ELSEWHERE}", *[SECONDS] * (name in WAITS)):
        assert re.search(what, thing.__doc__), f"{name} does not tell {what}"


def test_every_public_thing_has_a_docstring():
    bare = [name for name in pyjob.__all__ if not (getattr(pyjob, name).__doc__ or "").strip()]
    for owner in (pyjob.Job, pyjob.Popen, pyjob.ProcessHandle):
        for name, value in vars(owner).items():
            plain = not name.startswith("_") and (callable(value) or isinstance(value, (property, classmethod)))
            if plain and not (value.__doc__ or "").strip():
                bare.append(f"{owner.__name__}.{name}")
    assert not bare
