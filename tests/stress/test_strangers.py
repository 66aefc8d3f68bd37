"""No stranger dies, whatever PIDs are used again and however long a window is open: the adversary.

In a PID namespace with 400 numbers, thousands of innocents a second are born, each number that a member gives up goes
to an innocent at once, and members fork, execute, leave their session, end and are reaped by others without a pause.
Each function is driven by two processes at the same time, one as it is and one whose own system calls take 15 ms before
they begin, for PYJOB_STRESS_SECONDS (30). Not one innocent may be ended, stopped or continued. The same arena has to
catch those who do it in the naive way.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("PID namespaces and strace are Linux's", allow_module_level=True)

from helpers import strangers
from helpers.strangers import Arena, Count
from helpers.under_test import STRICT, Backend

SECONDS = float(os.environ.get("PYJOB_STRESS_SECONDS", "30"))
CAUGHT = 5
pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("strace", "unshare", "cc"),
    pytest.mark.timeout(SECONDS + 6 * strangers.PATIENCE),
]
Start = Callable[[str, str], Arena]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = strangers.means_missing()
    if missing and STRICT:
        pytest.fail(f"PYJOB_REQUIRE_ALL is set, but {missing}", pytrace=False)
    if missing:
        pytest.skip(missing)
    return strangers.compile_program(tmp_path_factory.mktemp("strangers"))


@pytest.fixture
def start(program: Path, folder: Path) -> Iterator[Start]:
    made: list[Arena] = []

    def make(function: str, backend: str) -> Arena:
        made.append(Arena(folder, program, function, backend))
        return made[-1]

    yield make
    for one in made:
        one.close()


def hunt(start: Start, function: str, backend: str) -> None:
    """Not one, in a run that was worth something."""
    count = start(function, backend).run(SECONDS, lambda so_far: so_far.hits > 0 or worth(so_far))
    print(count)
    assert count.hits == 0, str(count)
    assert count.code == 0, f"the arena did not end well: {count}"
    assert worth(count), f"too little happened: {count}"


def worth(count: Count) -> bool:
    return min(count.operations) >= 2 and count.innocents >= 1000 and count.forced >= 50


@pytest.mark.parametrize("function", ["kill", "stop", "send_signal", "members_act", "popen"])
def test_no_stranger_is_hit(start: Start, function: str, backend: Backend) -> None:
    hunt(start, function, backend)


@pytest.mark.needs("assign")
def test_no_stranger_is_hit_by_an_assignment(start: Start, backend: Backend) -> None:
    hunt(start, "assign", backend)


@pytest.mark.needs("assign", "dies_with_owner")
def test_no_stranger_is_hit_by_the_guard_of_one_that_assigns(start: Start, backend: Backend) -> None:
    hunt(start, "assign_guard", backend)


@pytest.mark.needs("dies_with_owner")
def test_no_stranger_is_hit_by_the_guard(start: Start, backend: Backend) -> None:
    hunt(start, "guard", backend)


@pytest.mark.parametrize("function", ["kill_tree", "handle"])
def test_no_stranger_is_hit_without_a_job(start: Start, function: str) -> None:
    hunt(start, function, "none")


@pytest.mark.parametrize("function", ["naive_tree", "naive_handle", "naive_group", "naive_guard"])
def test_the_arena_catches(start: Start, function: str) -> None:
    catch(start, function, "none")


def test_the_arena_catches_a_list_that_is_killed(start: Start, backend: Backend) -> None:
    catch(start, "naive_list", backend)


@pytest.mark.needs("assign")
def test_the_arena_catches_a_move_by_number(start: Start, backend: Backend) -> None:
    catch(start, "naive_assign", backend)


def catch(start: Start, function: str, backend: str) -> None:
    count = start(function, backend).run(0, lambda so_far: so_far.hits >= CAUGHT)
    print(count)
    assert count.hits >= CAUGHT, str(count)
