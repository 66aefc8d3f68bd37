"""Every C test below this folder, built with sanitizers and run by itself: one process, session and group for each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.leftovers import LINUX, own_cgroup
from helpers.native import NATIVE, Library, run_apart
from helpers.procs import eventually
from helpers.under_test import Backend
from pyjob._guard import PATH

pytestmark = [
    pytest.mark.skipif(not LINUX, reason="what these build is for Linux"),
    pytest.mark.skipif(not NATIVE.is_dir(), reason="no sources here (PYJOB_SOURCE)"),
    pytest.mark.tool("cc", "ar"),
    pytest.mark.timeout(300),
]

# Those with threads are looked at by both sanitizers. How each is called: a group of its own, its arguments there.
ADDRESS, THREAD = "address,undefined", "thread"
APART: dict[str, Callable[[Path], list[str | Path]] | None] = {
    "linux/test_procfs.c": None,
    "linux/test_cgroupfs.c": None,
    "linux/test_tree.c": None,
    "linux/test_cgroup.c": lambda group: [PATH],
    "linux/test_cgroup_caller.c": lambda group: [PATH],
    "linux/test_cgroup_owner.c": lambda group: [PATH],
    "posix/test_group.c": None,
    "posix/test_spawn.c": lambda group: [group],
}
THREADED = ["linux/test_procfs.c", "linux/test_cgroup.c", "linux/test_cgroup_caller.c", "linux/test_cgroup_owner.c"]
RUNS = [(name, ADDRESS) for name in APART] + [(name, THREAD) for name in THREADED]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Library]:
    """Built with the first test that needs it."""
    built: dict[str, Library] = {}

    def get(sanitizer: str) -> Library:
        if sanitizer not in built:
            built[sanitizer] = Library(tmp_path_factory.mktemp("native") / sanitizer.split(",")[0], sanitizer)
        return built[sanitizer]

    return get


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group for one program; writable, as the backend is available."""
    home = own_cgroup()
    if home is None or Backend.find("cgroup")[1]:
        pytest.skip("no cgroup that we may write")
    made = home / f"native-{os.getpid()}-{time.monotonic_ns()}"
    made.mkdir()
    yield made
    if (made / "cgroup.kill").exists():
        (made / "cgroup.kill").write_text("1")
    eventually(lambda: "populated 0" in (made / "cgroup.events").read_text())
    for path in sorted([made, *(one for one in made.rglob("*") if one.is_dir())], reverse=True):
        path.rmdir()


@pytest.mark.parametrize(("name", "sanitizer"), RUNS, ids=[f"{Path(name).stem}-{one[:7]}" for name, one in RUNS])
def test_program(name: str, sanitizer: str, library: Callable[[str], Library], request: pytest.FixtureRequest) -> None:
    program = library(sanitizer).program(NATIVE / name)
    arguments = APART[name]
    if arguments is None:
        done = run_apart(program)
        assert done.returncode == 0, done.stdout
        return
    group: Path = request.getfixturevalue("group")
    done = run_apart(program, *arguments(group), cgroup=group)
    assert done.returncode == 0, done.stdout
    # The program's guard removes its root when the program has ended.
    eventually(lambda: not list(group.glob("pyjob-*")), message=lambda: f"left: {list(group.rglob('*'))}")


def test_none_is_left_out() -> None:
    found = {str(one.relative_to(NATIVE)) for one in NATIVE.rglob("test_*.c")}
    assert found == set(APART)
    assert {one for one in found if "pthread_create" in (NATIVE / one).read_text()} <= set(THREADED)


FAULTS = """
#pragma GCC diagnostic ignored "-Wuse-after-free"
#include <pthread.h>
#include <stdlib.h>
volatile int it;
void *write_it(void *arg) { it++; return arg; }
volatile char *after_end(char *arg) { volatile char *same = arg; free(arg); return same; }
"""


@pytest.mark.parametrize(
    ("sanitizer", "fault", "told"),
    [
        (ADDRESS, "return *after_end(calloc(1, 1));", "heap-use-after-free"),
        (ADDRESS, "it = 0x7fffffff; write_it(0); return 0;", "signed integer overflow"),
        (ADDRESS, "return *(volatile char *)calloc(9, 1);", "LeakSanitizer"),
        (
            THREAD,
            "pthread_t t; pthread_create(&t, 0, write_it, 0); write_it(0); return pthread_join(t, 0);",
            "data race",
        ),
    ],
    ids=["use after free", "overflow", "leak", "race"],
)
def test_the_sanitizers_work(
    sanitizer: str, fault: str, told: str, library: Callable[[str], Library], tmp_path: Path
) -> None:
    """A look that sees nothing proves nothing."""
    source = tmp_path / "fault.c"
    source.write_text(f"{FAULTS}int main(void) {{ {fault} }}\n")
    done = run_apart(library(sanitizer).program(source))
    assert done.returncode != 0
    assert told in done.stdout
