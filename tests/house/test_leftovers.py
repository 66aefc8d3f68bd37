"""The look for leftovers must be able to fail: each test that it runs here leaves something behind on purpose."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.leftovers import LINUX

pytestmark = pytest.mark.skipif(not LINUX, reason="reads /proc")
TESTS = Path(__file__).resolve().parent.parent

LEAVERS = """
import os, subprocess, sys, time
import pyjob
from helpers import leftovers
leftovers.GRACE = 0.5
leftovers.Baseline.check.__defaults__ = (0.5,)
SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
keep = []

def test_a_child():
    keep.append(subprocess.Popen(SLEEPER))

def test_a_daemon_without_an_environment(folder):
    script = "import sys, time; time.sleep(60)"
    subprocess.run([sys.executable, "-S", "-c", f'''
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve(sys.executable, [sys.executable, "-S", "-c", {script!r}, {str(folder)!r}], {{}})
'''], check=True)

def test_a_zombie():
    if os.fork() == 0:
        os._exit(0)

def test_a_descriptor():
    keep.append(os.open(os.devnull, os.O_RDONLY))

def test_a_job_with_a_member():
    job = pyjob.Job()
    keep.append((job, job.popen(SLEEPER)))

def test_nothing():
    pass
"""

EXPECTED = {
    "test_a_child": "process: ",
    "test_a_daemon_without_an_environment": "process: ",
    "test_a_zombie": "zombie: ",
    "test_a_descriptor": "/dev/null",
    "test_a_job_with_a_member": "process: ",
}


def test_it_fails(folder):
    (folder / "test_leavers.py").write_text(LEAVERS)
    (folder / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    env = {key: value for key, value in os.environ.items() if key not in ("PYJOB_TEST_TOKEN", "PYJOB_TEST_CGROUP")}
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", str(TESTS / "pytest.ini"),
            "--rootdir", str(folder)),
            *("-q", "-rA", "--color=no", str(folder / "test_leavers.py")),
        ],
        capture_output=True, text=True, env={**env, "PYTHONPATH": str(TESTS)}, timeout=100,
    )  # fmt: skip
    for test, told in EXPECTED.items():
        assert re.search(rf"^ERROR \S*::{test}\b", result.stdout, re.M), (
            f"{test} was not noticed:\n{result.stdout}{result.stderr}"
        )
        assert told in result.stdout
    assert not re.search(r"^ERROR \S*::test_nothing\b", result.stdout, re.M), result.stdout


def test_a_fixed_look_at_the_cgroup(folder):
    from helpers import leftovers

    cgroup = leftovers.own_cgroup()
    assert cgroup is None or os.getpid() in leftovers.members(cgroup)
