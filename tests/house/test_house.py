"""The rules of the house that a machine can check, but for those of test_sources.py; over the sources, of which
tests/run.py names a copy in PYJOB_SOURCE."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

SOURCE = Path(os.environ.get("PYJOB_SOURCE", Path(__file__).resolve().parents[2]))
CSRC = SOURCE / "csrc"
pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="no sources here (PYJOB_SOURCE)")

PY_FILES = sorted([*(SOURCE / "pyjob").glob("*.py"), *(SOURCE / "tests").rglob("*.py")])
MOST_IN_FILE = 500


def name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def test_there_is_something_to_look_at():
    assert len(PY_FILES) > 20


@pytest.mark.parametrize("path", sorted((SOURCE / "pyjob").glob("*.py")), ids=name)
def test_the_packages_files_are_short(path):
    assert path.read_text().count("\n") <= MOST_IN_FILE


TOP = {"pyproject.toml", "setup.py", "MANIFEST.in", "csrc", "pyjob", "tests", "docs"} | {
    f"{word}.md" for word in ("README", "CHANGELOG", "CONTRIBUTING")
}


def test_the_top_level_is_fixed():
    made = {"build", "dist", "pyjob_native.egg-info", "PKG-INFO", "setup.cfg"}
    found = {one.name for one in SOURCE.iterdir() if not one.name.startswith(".")} - made
    assert found - TOP == {"LICENSE"}
    assert TOP - found == set()


# For each function of the table in csrc/core/backend.h: the file in tests/conformance that is there for it, what its
# tests call, and what tests/leak calls again and again.
PREEXEC = ("test_preexec.py", "preexec_fn=", "preexec_fn=int")
MEMBERS = ("test_members.py", ".members(", 'good("Job.members"')
OPERATIONS = {
    "probe": ("test_guarantees.py", "backend.guarantees", 'good("backends"'),
    "create": ("test_nested.py", ".job(", 'good("Job"'),
    "open": ("test_names.py", "Job.open(", 'good("Job.open"'),
    "spawn": ("test_inherited.py", ".popen(", 'good("Job.popen"'),
    "prepare": PREEXEC, "exec": PREEXEC, "finish": PREEXEC, "join": PREEXEC,
    "assign": ("test_assign.py", ".assign(", 'good("Job.assign"'),
    "assign_self": ("test_assign_self.py", ".assign_self(", 'good("Job.assign_self"'),
    "list": ("test_members.py", ".pids(", 'good("Job.pids"'),
    "contains": ("test_contains.py", " in job", 'good("Job.__contains__"'),
    "walk": MEMBERS, "walk_end": MEMBERS,
    "signal": ("test_signal.py", ".send_signal(", 'good("Job.send_signal"'),
    "kill": ("test_kill.py", ".kill(", 'good("Job.kill"'),
    "wait": ("test_wait.py", ".wait(", 'good("Job.wait"'),
    "collect": ("test_popen.py", ".wait(", 'good("Popen.wait"'),
    "signal_program": ("test_popen.py", ".terminate(", 'good("Popen.terminate"'),
    "watch": ("test_guarantees.py", "job.guarantees", '"guarantees"'),
    "release": ("test_release.py", ".release(", 'good("Job.release"'),
    "close": ("test_close.py", ".close(", 'good("Job.close"'),
    "abandon": ("test_fork.py", "in_child(", 'good("Job", _fork'),
}  # fmt: skip


def test_every_backend_operation_is_listed():
    header = re.sub(r"/\*.*?\*/", "", (CSRC / "core" / "backend.h").read_text(), flags=re.S)
    table = re.search(r"^struct pj_backend \{(.*?)^\};", header, re.M | re.S).group(1)
    found = re.findall(r"\(\*(\w+)\)\(", table)
    assert set(found) == set(OPERATIONS), "a new one needs its tests, and a line in OPERATIONS"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_backend_operation_is_tested(operation):
    file, call, again = OPERATIONS[operation]
    tests = (SOURCE / "tests" / "conformance" / file).read_text().split("\ndef test_")[1:]
    assert [one for one in tests if "backend" in one.split(")")[0] and call in one], f"no conformance test: {call}"
    assert again in (SOURCE / "tests" / "leak" / "test_leaks.py").read_text(), f"no leak test: {again}"


def test_every_public_name_is_tested():
    import pyjob

    text = "".join(one.read_text() for one in (SOURCE / "tests").rglob("test_*.py"))
    assert not [one for one in pyjob.__all__ if not re.search(rf"\b{one}\b", text)]


def test_every_section_on_security_has_its_tests():
    sections = re.findall(r"^## (.+)$", (SOURCE / "docs" / "security.md").read_text(), re.M)
    files = ("platform/linux/test_security.py", "windows/test_job_object.py")
    text = "".join((SOURCE / "tests" / one).read_text() for one in files)
    tested = {
        head for head, part in re.findall(r"^# ---- (.+)\n((?:(?!# ----).*\n)*)", text, re.M) if "def test_" in part
    }
    assert len(sections) > 6
    assert [one for one in sections if one not in tested] == []


def test_the_tests_run_against_the_installed_wheel():
    import pyjob

    here = Path(pyjob.__file__).resolve().parent
    assert not (here.parent / "setup.py").exists(), f"{here} is a checkout"
    assert "site-packages" in here.parts or "dist-packages" in here.parts


def test_no_two_files_of_tests_have_one_name():
    """pytest imports them by that; where folders run together (Windows) it would stop at the second."""
    names = Counter(one.name for one in (SOURCE / "tests").rglob("test_*.py"))
    assert [one for one, times in names.items() if times > 1] == []


def test_no_test_sleeps_long():
    """A fixed sleep is no synchronisation: it is too short on a loaded machine and too long on a quick one."""
    bad = []
    for one in (SOURCE / "tests").rglob("*.py"):
        if one.parent.name in ("bench", "helpers"):
            continue
        for number, line in enumerate(one.read_text().splitlines(), 1):
            found = re.match(r"\s*time\.sleep\(([\d.]+)\)\s*$", line)
            if found and 1 < float(found.group(1)) < 60:
                bad.append(f"{name(one)}:{number}: {line.strip()}")
    assert not bad, bad


def test_no_machine_of_ours_in_the_files():
    """Neither a path of the machine this was written on nor the address of a package mirror."""
    suspects = re.compile(r"/(work|root)/[a-z]|/tmp/[kw]/|https?://(?!(?:[\w.-]+\.)?(?:github\.com|python\.org|pypi\.org|"
                          r"kernel\.org|microsoft\.com|readthedocs\.io|man7\.org|debian\.org|freebsd\.org|apple\.com|"
                          r"opensource\.org|schemastore\.org|keepachangelog\.com|semver\.org|www\.\w+\.\w+|json\.schemastore\.org|"
                          r"img\.shields\.io|packaging\.python\.org|squidfunk\.github\.io|localhost))")  # fmt: skip
    bad = []
    for folder in ("csrc", "pyjob", "tests", ".github", ".ci", "docs"):
        for one in (SOURCE / folder).rglob("*"):
            if one.is_file() and one.suffix in (
                ".c",
                ".h",
                ".py",
                ".pyi",
                ".md",
                ".toml",
                ".yml",
                ".yaml",
                ".txt",
                ".cfg",
                "",
            ):
                if one.name == "test_house.py" or "_cache" in str(one):
                    continue
                text = one.read_text(errors="replace")
                bad += [f"{name(one)}: {found.group(0)}" for found in suspects.finditer(text)]
    assert not bad, bad
