"""CPython's own tests of `subprocess`, `asyncio` and `concurrent.futures`, with ours in place.

Those of `subprocess` run on every CPython of this machine that has its `test` package, the others on the one that runs
this suite.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.pythons import pythons

pytestmark = pytest.mark.timeout(900)

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
OWN = "{}.{}".format(*sys.version_info[:2])
INSIDE = Path(__file__).with_name("inside.py")

# At most five methods for each backend. Each either patches what is private to subprocess, or must be the parent.
_ERRPIPE = "replaces _posixsubprocess.fork_exec, to write to the pipe that reports a failed exec; ours has no such pipe"
_VFORK = "patches subprocess._fork_exec, to see how it is called; ours does not call it"
_REAPS = "calls os.waitpid() for the program, which is the guard's child"
EXCLUDED = {
    "test_exception_errpipe_normal": _ERRPIPE,
    "test_exception_errpipe_bad_data": _ERRPIPE,
    "test__use_vfork": _VFORK,
}
EXCLUDED_REAPER = {
    **EXCLUDED,
    "test_send_signal_race": _REAPS,
    "test_stopped": _REAPS,
}
# 3.15 has tests of how its wait() waits: with os.pidfd_open(), os.waitpid() and a method of its own, all replaced.
_WAITS = "looks for Popen._wait_pidfd() and os.waitpid(); ours is collected by the native job"
EXCLUDED_3_15 = {
    "test_pidfd_open_notification_without_immediate_reap": _WAITS,
    "test_pidfd_open_race": _WAITS,
    "test_wait_pidfd_open_error": _WAITS,
}


def excluded(backend: str, version: str) -> dict[str, str]:
    if backend == "job-object":
        return {}
    found = EXCLUDED_REAPER if backend == "reaper" else EXCLUDED
    assert len(found) <= 5
    return {**found, **EXCLUDED_3_15} if version == "3.15" and backend != "cgroup" else found


def interpreter(version: str) -> str | None:
    """A CPython of this version, with its `test` package."""
    major, minor = map(int, version.split("."))
    return pythons("test.test_subprocess").get((major, minor))


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    named: str = request.param
    return named


@pytest.fixture
def python(version: str) -> str:
    found = interpreter(version)
    if found is None:
        pytest.skip(f"no CPython {version} with its `test` package on this machine")
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The installed package and nothing else: its extension is of the stable ABI, so every CPython can load it."""
    import pyjob

    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(Path(pyjob.__file__).parent, folder / "pyjob", ignore=shutil.ignore_patterns("__pycache__"))
    yield folder
    shutil.rmtree(folder)


class Outcome:
    def __init__(self, report: Path, output: str) -> None:
        lines = report.read_text().splitlines() if report.exists() else []
        self.of: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        for name, what, text in map(json.loads, lines):
            if self.of.get(name) != "fail":  # a failed subtest is followed by others
                self.of[name] = what
                self.texts[name] = text
        self.output = output

    def named(self, what: str) -> set[str]:
        return {name for name, outcome in self.of.items() if outcome == what}


def run(python: str, site: Path, folder: Path, chosen: str, module: str, *tests: str) -> Outcome:
    """In a session of its own, with standard dispositions, as `python -m test` is started from a shell."""
    report = folder / f"{chosen}.json"
    work = folder / "work"
    work.mkdir(exist_ok=True)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST_"))}
    environ["PYTHONPATH"] = str(site)
    child = subprocess.Popen(
        [python, str(INSIDE), chosen, str(report), module, *tests],
        cwd=work,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=sys.platform != "win32",
    )
    try:
        output = child.communicate(timeout=600)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        if sys.platform == "win32":
            child.kill()
        else:
            os.killpg(child.pid, signal.SIGABRT)
        output = child.communicate()[0].decode(errors="replace")
        pytest.fail(f"{module} did not end within 10 minutes:\n{output[-3000:]}", pytrace=False)
    result = Outcome(report, output)
    assert child.returncode == 0, f"{module} ended with {child.returncode}:\n{output[-3000:]}"
    return result


def compare(python: str, site: Path, folder: Path, backend: str, module: str, allowed: dict[str, str]) -> Outcome:
    """Whatever passes with stock passes with ours, but for what is allowed to fail."""
    ours = run(python, site, folder, backend, module)
    failed = {name for name in ours.named("fail") if name.rsplit(".", 1)[-1] not in allowed}
    if failed:  # as it may be the machine, ask stock in the same circumstances
        stock = run(python, site, folder, "stock", module, *sorted(failed))
        failed &= stock.named("ok")
    texts = "\n".join(f"{name}:\n{ours.texts[name]}" for name in sorted(failed))
    assert not failed, f"{len(failed)} fail with ours and pass with stock:\n{texts}"
    return ours


def test_subprocess(backend: Any, python: str, version: str, site: Path, tmp_path: Path) -> None:
    allowed = excluded(str(backend), version)
    ours = compare(python, site, tmp_path, str(backend), "test.test_subprocess", allowed)
    assert len(ours.named("ok")) > 130, f"hardly anything ran: {ours.output[-2000:]}"


def test_exclusions_are_needed(backend: Any, site: Path, tmp_path: Path) -> None:
    """Each excluded method passes with stock and fails with ours: the list holds nothing else."""
    python = interpreter(OWN)
    if python is None:
        pytest.skip("this CPython lacks its `test` package")
    if not excluded(str(backend), OWN):
        pytest.skip("nothing is excluded here")
    module = "test.test_subprocess"
    names = subprocess.run(
        [
            python,
            "-c",
            "import unittest, test.test_subprocess as t\n"
            "todo = [unittest.defaultTestLoader.loadTestsFromModule(t)]\n"
            "while todo:\n"
            "    one = todo.pop()\n"
            "    todo.extend(one) if isinstance(one, unittest.TestSuite) else print(one.id())\n",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    wanted = [name for name in names if name.rsplit(".", 1)[-1] in excluded(str(backend), OWN)]
    stock = run(python, site, tmp_path, "stock", module, *wanted)
    ours = run(python, site, tmp_path, str(backend), module, *wanted)
    assert stock.named("ok") - ours.named("fail") == set()


@pytest.mark.parametrize("version", [OWN], indirect=True)
@pytest.mark.needs("own_child")
def test_asyncio(backend: Any, python: str, site: Path, tmp_path: Path) -> None:
    """asyncio starts with subprocess.Popen and waits for the PID by itself."""
    ours = compare(python, site, tmp_path, str(backend), "test.test_asyncio.test_subprocess", {})
    assert len(ours.named("ok")) > 20, f"hardly anything ran: {ours.output[-2000:]}"


def pool_tests() -> tuple[str, str] | None:
    """A CPython that has the tests of process pools, the one that runs this suite first, and their module's name."""
    for version in (OWN, *VERSIONS):
        python = interpreter(version)
        for module in ("test.test_concurrent_futures.test_process_pool", "test.test_concurrent_futures"):
            code = f"import {module} as module; module.ProcessPoolSpawnProcessPoolExecutorTest"
            if python and subprocess.run([python, "-c", code], capture_output=True).returncode == 0:
                return python, module
    return None


def test_process_pools_inside_a_job(backend: Any, site: Path, tmp_path: Path) -> None:
    """Pools by fork, spawn and forkserver work in a member as they do outside, and nothing of them is left."""
    import pyjob

    found = pool_tests()
    if found is None:
        pytest.skip("no CPython on this machine has test_concurrent_futures")
    python, module = found
    kinds = ("Spawn",) if sys.platform == "win32" else ("Fork", "Spawn", "Forkserver")
    names = [f"{module}.ProcessPool{kind}ProcessPoolExecutorTest" for kind in kinds]
    report = tmp_path / "pools.json"
    with pyjob.Job(backend=str(backend)) as job:
        done = job.run(
            [python, str(INSIDE), "stock", str(report), module, *names],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST_"))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=500,
        )
        outcome = Outcome(report, done.stdout + done.stderr)
        assert done.returncode == 0
        assert len(outcome.named("ok")) >= 10 * len(kinds), outcome.output[-3000:]
        assert not outcome.named("fail"), outcome.output[-3000:]
        assert job.pids() == []
