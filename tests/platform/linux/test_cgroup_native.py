"""The C tests of the cgroup backend, built with sanitizers and run in a cgroup of their own."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from helpers.leftovers import own_cgroup
from helpers.under_test import Backend
from pyjob._guard import PATH

SOURCE = Path(os.environ.get("PYJOB_SOURCE", Path(__file__).resolve().parents[3]))
NATIVE = SOURCE / "tests/native/linux"
FLAGS = "-std=c11 -D_GNU_SOURCE -g -Wall -Wextra -Werror -pthread".split()
CGROUP_SOURCES = [
    SOURCE / "csrc" / name
    for name in (
        "core/pids.c",
        *(f"posix/{name}.c" for name in ("clock", "spawn")),
        *(f"linux/cgroup{name}.c" for name in ("", "_kill", "_look", "_move", "_probe", "fs")),
        *(f"linux/{name}.c" for name in ("names", "platform", "root", "root_guard", "pidref", "procfs", "sweep", "start")),
    )
]
# What runs in a child on the caller's stack, and leaves it by exec, would leave the sanitizers' marks on it.
PLAIN = [SOURCE / "csrc" / name for name in ("posix/child.c", "linux/guard.c")]

pytestmark = [
    pytest.mark.skipif(not NATIVE.is_dir(), reason="no sources here (PYJOB_SOURCE)"),
    pytest.mark.tool("cc"),
]


def build(target: Path, *options: str | Path) -> None:
    include = [f"-I{SOURCE / 'csrc'}", f"-I{NATIVE}"]
    subprocess.run(["cc", *FLAGS, *include, *map(str, options), "-o", str(target)], check=True)


@pytest.fixture
def cgroup():
    """A group for one program; writable, as the backend is available."""
    home = own_cgroup()
    if home is None or Backend.find("cgroup")[1]:
        pytest.skip("no cgroup that we may write")
    made = home / f"native-{os.getpid()}"
    made.mkdir()
    yield made
    for path in sorted([made, *(one for one in made.rglob("*") if one.is_dir())], reverse=True):
        path.rmdir()


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
@pytest.mark.parametrize("name", ["test_cgroup", "test_cgroup_caller", "test_cgroup_owner"])
def test_backend(name, sanitizer, cgroup, folder):
    objects = []
    for source in PLAIN:
        objects.append(folder / f"{source.stem}.o")
        build(objects[-1], "-c", source)
    program = folder / name
    build(program, f"-fsanitize={sanitizer}", NATIVE / f"{name}.c", *CGROUP_SOURCES, *objects)
    command = 'echo 0 > "$1/cgroup.procs" && exec "$2" "$3"'
    done = subprocess.run(
        ["sh", "-c", command, "sh", str(cgroup), str(program), PATH],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stdout
    assert_removed(cgroup)


def assert_removed(cgroup: Path) -> None:
    """The program's guard removes its root when the program has ended."""
    end = time.monotonic() + 2
    while list(cgroup.glob("pyjob-*")) and time.monotonic() < end:
        time.sleep(0.01)
    assert list(cgroup.glob("pyjob-*")) == []


def test_parsers(folder):
    program = folder / "test_cgroupfs"
    files = [NATIVE / "test_cgroupfs.c", SOURCE / "csrc/linux/cgroupfs.c"]
    build(program, "-fsanitize=address,undefined", *files)
    subprocess.run([str(program)], check=True, timeout=60)
