"""Job() takes the first backend that backends() calls available, also where it refuses late, or only in parts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.leftovers import members, own_cgroup
from helpers.procs import eventually

pytestmark = pytest.mark.root

# As a program of its own, put into a group before it begins.
SCRIPT = """
import sys
import pyjob

rows = pyjob.backends()
first = next((row.name for row in rows if row.available and row.name != "process-group"), None)
refused = rows[0]
assert refused.name == "cgroup" and not refused.available, refused
assert sys.argv[1] in refused.why and sys.argv[2] in refused.help, (refused.why, refused.help)
for require in ((), ("escape_proof", "dies_with_owner")):
    with pyjob.Job(require=require) as job:
        assert job.backend == first, job
        program = job.popen([sys.executable, "-S", "-c", "raise SystemExit(7)"])
        assert program.wait() == 7
        assert job.run([sys.executable, "-S", "-c", "raise SystemExit(8)"]).returncode == 8
try:
    pyjob.Job(backend="cgroup")
except pyjob.UnsupportedError as error:
    assert sys.argv[1] in str(error), error
else:
    raise AssertionError("backend=cgroup was not refused")
print("fine")
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """An empty control group below ours."""
    home = own_cgroup()
    if home is None or not os.access(home, os.W_OK):
        pytest.skip("no writable cgroup")
    made = home / f"ladder-{os.getpid()}"
    made.mkdir()
    yield made
    eventually(lambda: not members(made), 5.0)
    for path in sorted((one for one in made.rglob("*") if one.is_dir()), reverse=True):
        path.rmdir()
    made.rmdir()


@pytest.fixture
def inside(group: Path) -> Callable[..., None]:
    def run(why: str, help: str) -> None:
        enter = ["sh", "-c", 'echo 0 > "$0" && exec "$@"', str(group / "cgroup.procs")]
        command = [*enter, sys.executable, "-c", SCRIPT, why, help]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.stdout == "fine\n", done.stderr
        assert done.stderr == ""
        assert not list(group.glob("pyjob-*"))

    return run


@pytest.mark.parametrize("levels", [0, 1, 2])
@pytest.mark.parametrize("limit", ["cgroup.max.depth", "cgroup.max.descendants"])
def test_limits_below_what_a_job_takes(group, inside, limit, levels):
    (group / limit).write_text(str(levels))
    inside("Resource temporarily unavailable", limit)


def test_a_threaded_group(group, inside):
    """Its processes can be in it, but not in a group below it."""
    threaded = group / "t"
    threaded.mkdir()
    (threaded / "cgroup.type").write_text("threaded")
    inside("threaded", "Delegate=yes")


@pytest.mark.tool("unshare", "mount")
def test_without_proc_there_is_no_reaper():
    script = """
import pyjob
assert not any(row.available for row in pyjob.backends() if row.name != "process-group"), pyjob.backends()
for backend in (None, "reaper"):
    try:
        pyjob.Job(backend=backend)
    except pyjob.UnsupportedError as error:
        assert "reaper" in str(error) and "/proc" in str(error), error
    else:
        raise AssertionError(f"{backend} was not refused")
print("fine")
"""
    hide = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    done = subprocess.run([*hide, sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("fine\n", "")
