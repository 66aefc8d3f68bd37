"""The fixtures of the whole suite; see helpers/ for what they hand out."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent)]
import pytest  # noqa: E402

from helpers.leftovers import LINUX, TOKEN, Baseline, own_cgroup  # noqa: E402
from helpers.owner import Owner  # noqa: E402
from helpers.procs import AS_NOBODY, DEADLINE, Identity  # noqa: E402
from helpers.tree import Node, Tree, node  # noqa: E402
from helpers.under_test import CHOSEN, STRICT, Backend  # noqa: E402

if "PYTEST_XDIST_WORKER" in os.environ:  # it inherited the token of all, and would end what the other one starts
    os.environ[TOKEN] = f"{os.environ[TOKEN]}-{os.environ['PYTEST_XDIST_WORKER']}"


def _missing(reason: str) -> None:
    """Without its means a test is skipped, but not where everything is promised to be there."""
    if STRICT:
        pytest.fail(f"PYJOB_REQUIRE_ALL is set, but {reason}", pytrace=False)
    pytest.skip(reason)


if os.name == "nt":
    import ctypes

    # Wine starts its explorer.exe as a child of the first process that needs the desktop: here, in nobody's job.
    ctypes.windll.user32.GetDesktopWindow()
    with contextlib.suppress(ImportError):
        import psutil

        psutil.Process().create_time()  # its first use opens handles that stay


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", CHOSEN, indirect=True, scope="function")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = getattr(os, "geteuid", lambda: 1)() == 0
    for item in items:
        if item.get_closest_marker("unprivileged") and root:
            item.add_marker(pytest.mark.skip(reason="root may do everything"))
        if item.get_closest_marker("root") and not root:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(autouse=True)
def _tools(request: pytest.FixtureRequest) -> None:
    for marker in request.node.iter_markers("tool"):
        for program in marker.args:
            # Debian keeps servers in /usr/sbin, which is not on everybody's PATH.
            if not shutil.which(program) and not shutil.which(program, path="/usr/sbin:/sbin"):
                _missing(f"{program} is not installed")


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend of this platform in turn: its name (a str) with .guarantees, .has(), .job(), .popen(), .run()."""
    found, why = Backend.find(request.param)
    if why:
        _missing(why)
    for marker in request.node.iter_markers("needs"):
        lacking = set(marker.args) - found.guarantees
        if lacking:
            pytest.skip(f"{found} does not promise {', '.join(sorted(lacking))}")
    for marker in request.node.iter_markers("lacks"):
        having = set(marker.args) & found.guarantees
        if having:
            pytest.skip(f"{found} promises {', '.join(sorted(having))}")
    return found


@pytest.fixture(scope="session", autouse=True)
def _warm() -> None:
    """What is made once per process (root cgroup, guard, pool; lazily imported modules) belongs to no single test."""
    import pyjob

    for name in [*CHOSEN, None]:  # None: the default, which tests without a backend take
        if name is None or not Backend.find(name)[1]:
            with pyjob.Job(backend=name) as job, job.popen([sys.executable, "-S", "-c", ""]) as program:
                program.wait(DEADLINE)


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest, _warm: None) -> Iterator[None]:
    before = Baseline.take()
    yield
    found = before.check()
    if found and not request.node.get_closest_marker("leaks_allowed"):
        pytest.fail("left behind:\n  " + "\n  ".join(found), pytrace=False)


@pytest.fixture
def stock_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """From CPython 3.13 on stock takes posix_spawn(3) for some starts, which words refusals in its own way."""
    monkeypatch.setattr(subprocess, "_USE_POSIX_SPAWN", False)


@pytest.fixture
def folder(_nothing_left: None) -> Iterator[Path]:
    """A short-named folder; its name is what tells our processes from strangers where the environment was scrubbed."""
    made = Path(tempfile.mkdtemp(prefix=f"pyjob-tests-{os.getpid()}-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def tree(folder: Path) -> Iterator[Callable[..., Tree]]:
    """Makes trees: tree(node("top", node("child")), …); whatever lives of them at the end is ended."""
    made: list[Tree] = []
    number = itertools.count()  # a test may run in several threads

    def make(root: Node | None = None) -> Tree:
        one = Tree(folder / f"tree{next(number)}", root or node("top", node("child", node("grandchild"))))
        made.append(one)
        return one

    yield make
    for one in made:
        one.end()


def _as_nobody(code: str) -> subprocess.CompletedProcess[str]:
    begin = f"import os, signal, sys, time\nsys.path[:0] = {sys.path!r}\nimport pyjob\n"
    return subprocess.run(
        [*AS_NOBODY, sys.executable, "-c", begin + code], capture_output=True, text=True, timeout=60, cwd="/"
    )


@functools.cache
def _nobodys_refusal() -> str:
    done = _as_nobody("")
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


@pytest.fixture
def as_nobody() -> Callable[[str], str]:
    """Runs Python code, with pyjob at hand, as a user without rights; what it prints."""
    if refusal := _nobodys_refusal():
        pytest.skip(f"nobody cannot use this Python: {refusal}")

    def run(code: str) -> str:
        done = _as_nobody(code)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    return run


class Bystander:
    """A process of the same name that is in no job and must live on."""

    def __init__(self, argv: list[str], **options: Any) -> None:
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **options)
        self.identity = Identity.of(self.process.pid)

    @property
    def pid(self) -> int:
        return self.process.pid

    def assert_alive(self) -> None:
        assert self.process.poll() is None and self.identity.alive(), (
            f"the bystander is dead: {self.process.returncode}"
        )


class Bystanders:
    """Makes bystanders from a command line; at the end each must still live, and is ended."""

    def __init__(self) -> None:
        self.made: list[Bystander] = []

    def __call__(self, argv: list[str], **options: Any) -> Bystander:
        self.made.append(Bystander(argv, **options))
        return self.made[-1]

    def forget(self, one: Bystander) -> None:
        """The test ends this one by itself."""
        self.made.remove(one)

    def end(self) -> None:
        dead = [one for one in self.made if one.process.poll() is not None]
        for one in self.made:
            one.process.kill()
            one.process.wait(DEADLINE)
            if one.process.stdout:
                one.process.stdout.close()
        assert not dead, f"bystanders died: {[(one.pid, one.process.returncode) for one in dead]}"


@pytest.fixture
def bystanders(_nothing_left: None) -> Iterator[Bystanders]:
    made = Bystanders()
    yield made
    made.end()


@pytest.fixture
def bystander(bystanders: Bystanders, folder: Path) -> Bystander:
    """The same program as the trees', from the same parent, outside every job."""
    tree = Tree(folder / "bystander", node("bystander"))
    one = bystanders(tree.argv)
    tree.ready()
    return one


@pytest.fixture
def owners(folder: Path, _nothing_left: None) -> Iterator[Callable[..., Owner]]:
    """Makes owners: owners(body, end="SIGKILL", backend=…); see helpers/owner.py."""
    made: list[Owner] = []

    def make(body: str, **options: Any) -> Owner:
        made.append(Owner(folder, body, **options))
        return made[-1]

    yield make
    for one in made:
        one.__exit__(None, None, None)


def pytest_report_header() -> list[str]:
    import pyjob

    lines = [f"pyjob from {Path(pyjob.__file__).parent}, cgroup {own_cgroup() if LINUX else None}"]
    for info in pyjob.backends():
        lines.append(f"  {info.name}: {'available' if info.available else info.why}")
    return lines


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Why a test needed its second look (pytest-rerunfailures) is told, too."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"at first {report.nodeid}", "_")
        terminalreporter.write_line(report.longreprtext)
