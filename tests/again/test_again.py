"""Tests once more: with an extension or a guard built with sanitizers, each in several threads at once, in a
sub-interpreter, and on a debug build of CPython.

Python itself is not sanitized: what is seen is what our C code does, and what it hands to the C library. Leaks are
looked for in native/ and leak/, since CPython's own would drown ours. Whoever is started with the tests' environment
has the sanitizer, too, and what it reports there counts as well.

In several threads (pytest-run-parallel) means between one setup and one teardown, which looks for what all of them
left behind; so only those modules are taken whose tests share nothing by way of a fixture or a file's name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import pyjob
from helpers.leftovers import LINUX
from helpers.native import NATIVE, SOURCE, Library, run_apart
from helpers.pythons import pythons
from helpers.under_test import Backend

pytestmark = [
    pytest.mark.skipif(not LINUX, reason="what these build is for Linux"),
    pytest.mark.skipif(not NATIVE.is_dir(), reason="no sources here (PYJOB_SOURCE)"),
    pytest.mark.tool("cc", "ar"),
    pytest.mark.timeout(4000 if os.environ.get("PYJOB_AGAIN") else 900),
]

HERE = Path(__file__).resolve().parent
ALONE = ["after_failures", "bad_arguments", "fork", "members", "names", "preexec", "process_handle"]
ALL = os.environ.get("PYJOB_AGAIN") == "all"
if ALL:  # not only those in which our C code does most: for an hour to spare
    ALONE = sorted(one.stem.removeprefix("test_") for one in (HERE.parent / "conformance").glob("test_*.py"))
DEBUGGED = ["bad_arguments", "members", "names", "preexec", "process_handle"]  # what they start is as slow
INSIDE = ALONE if ALL else ["contains", "dropping", "kill", "members", "wait"]
TOGETHER = ["assign_self", "close", "escape", "inherited", "kill", "kill_on_close", "release", "stop"]
TOGETHER_WATCHED = ["contains", "threads", "wait"]
PYTEST = ["-m", "pytest"]
THREADS = "--parallel-threads=3"

ADDRESS, THREAD = "address,undefined", "thread"
RUNTIME = {ADDRESS: "libasan.so", THREAD: "libtsan.so"}
OPTIONS = {
    # gcc's UBSan writes to stderr alone, where a child's words are lost: it aborts, and that ASan reports.
    ADDRESS: "detect_leaks=0:handle_abort=2:abort_on_error=1:disable_coredump=0",
    # Who forked may start threads; and at the end nobody sleeps to give a race its chance.
    THREAD: "die_after_fork=0:atexit_sleep_ms=0",
}


class Sanitized:
    """An installed pyjob with another extension, and what runs with it."""

    def __init__(self, folder: Path, sanitizer: str) -> None:
        self.package = Library(folder, sanitizer).package(HERE / "faults.c")
        self.reports = folder / "reports"
        self.reports.mkdir()
        runtime = subprocess.check_output(["cc", f"-print-file-name={RUNTIME[sanitizer]}"], text=True).strip()
        assert Path(runtime).is_absolute(), f"the compiler has no {runtime}"
        options = f"{OPTIONS[sanitizer]}:log_path={self.reports / 'report'}"
        self.env = [f"LD_PRELOAD={runtime}", f"PYTHONPATH={self.package.parent}"]
        self.env += [f"{one}_OPTIONS={options}" for one in ("ASAN", "UBSAN", "TSAN")]

    def run(self, *arguments: str) -> tuple[subprocess.CompletedProcess[str], str]:
        """Python with these arguments; the second is what any process reported."""
        done = run_apart("env", *self.env, sys.executable, *arguments, seconds=3600 if ALL else 800)
        told = ""
        for one in self.reports.iterdir():
            told += one.read_text(errors="replace")
            one.unlink()
        return done, told


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Sanitized]:
    """Built with the first test that needs it."""
    built: dict[str, Sanitized] = {}

    def get(sanitizer: str) -> Sanitized:
        if sanitizer not in built:
            built[sanitizer] = Sanitized(tmp_path_factory.mktemp("again") / sanitizer.split(",")[0], sanitizer)
        return built[sanitizer]

    return get


def conformance(modules: list[str], *options: str) -> list[str]:
    files = [str(HERE.parent / "conformance" / f"test_{one}.py") for one in modules]
    return ["-p", "no:cacheprovider", "--color=no", *options, *files]


def assert_all_ran_in_threads(said: str) -> None:
    assert "All tests were run in parallel" in said, said
    passed = re.search(r"^=+ (\d+) passed", said, re.M)
    assert passed and int(passed[1]) >= 20, said


def test_addresses_and_undefined_behaviour(sanitized: Callable[[str], Sanitized]) -> None:
    it = sanitized(ADDRESS)
    done, told = it.run(*PYTEST, *conformance(ALONE, "-k", "not test_wait_tells_the_signal"))  # which aborts on purpose
    assert not told and done.returncode == 0, f"{told}\n{done.stdout}"
    assert f"pyjob from {it.package}" in done.stdout


def test_races(sanitized: Callable[[str], Sanitized]) -> None:
    it = sanitized(THREAD)
    done, told = it.run(*PYTEST, *conformance(TOGETHER_WATCHED, THREADS))
    assert not told and done.returncode == 0, f"{told}\n{done.stdout}"
    assert f"pyjob from {it.package}" in done.stdout
    assert_all_ran_in_threads(done.stdout)


@pytest.mark.parametrize("name", ["cgroup", "reaper"])
def test_in_threads(name: str) -> None:
    if why := Backend.find(name)[1]:
        pytest.skip(why)
    done = run_apart(
        "env", f"PYJOB_TEST_BACKENDS={name}", sys.executable, *PYTEST, *conformance(TOGETHER, THREADS), seconds=800
    )
    assert done.returncode == 0, done.stdout
    assert_all_ran_in_threads(done.stdout)


@pytest.mark.parametrize("gil", ["shared", "own"])
def test_in_a_sub_interpreter(gil: str) -> None:
    """A GIL of its own has one since Python 3.12."""
    python: str | None = sys.executable
    if gil == "own" and sys.version_info < (3, 12):
        python = next((one for version, one in reversed(pythons().items()) if version >= (3, 12)), None)
        if not python:
            pytest.skip("no CPython 3.12 or later on this machine")
    env = ["env", f"PYTHONPATH={sysconfig.get_path('platlib')}", "PYTHONDONTWRITEBYTECODE=1"]
    # One plugin keeps a thread to the end, the other's module is for the main interpreter alone.
    options = ["-p", "no:rerunfailures", "-p", "no:faulthandler", "-o", "timeout_method=thread"]
    tests = conformance(INSIDE, "-m", "not main_interpreter", *options)
    done = run_apart(*env, python, HERE / "inside.py", gil, *tests, seconds=3600 if ALL else 800)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"^=+ (\d+) passed", done.stdout, re.M)
    assert passed and int(passed[1]) > 100, done.stdout
    assert "its end was quiet" in done.stdout


def test_the_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a C library there is no sanitizer's run time: what is undefined traps, and a dead guard is noticed."""
    monkeypatch.syspath_prepend(SOURCE)
    monkeypatch.setenv("PYJOB_GUARD_CC", "cc -fsanitize=undefined -fsanitize-undefined-trap-on-error")
    from setup import Build

    package = tmp_path / "path" / "pyjob"
    shutil.copytree(Path(pyjob.__file__).parent, package)
    guard = package / "pyjob-guard"
    traps = guard.read_bytes().count(b"\x0f\x0b")
    Build.build_guard(SimpleNamespace(build_temp=tmp_path), guard)
    assert guard.read_bytes().count(b"\x0f\x0b") > traps + 50 or sysconfig.get_platform() != "linux-x86_64"
    files = [HERE.parent / "platform/linux" / f"test_{one}.py" for one in ("guard", "reaper")]
    # It is larger then; and a test's folder is closed to the other user of some tests.
    options = ["-p", "no:cacheprovider", "--color=no", "-k", "not resident and not hidepid"]
    env = ["env", f"PYTHONPATH={package.parent}"]
    done = run_apart(*env, sys.executable, *PYTEST, *options, *files, seconds=800)
    assert done.returncode == 0, done.stdout
    assert f"pyjob from {package}" in done.stdout


@pytest.mark.tool("python3-dbg")
def test_debug_python() -> None:
    """It checks what the extension does to reference counts, exceptions and the C API's rules; so does -X dev."""
    env = [f"PYTHONPATH={sysconfig.get_path('platlib')}", "PYTHONDONTWRITEBYTECODE=1"]
    ask = "import sys; sys.gettotalrefcount(); print(*sys.version_info[:2])"
    done = run_apart("env", *env, "python3-dbg", "-c", ask, seconds=60)
    if done.stdout.split() != [str(one) for one in sys.version_info[:2]]:
        pytest.skip(f"python3-dbg is another version: {done.stdout}")
    done = run_apart("env", *env, "python3-dbg", "-X", "dev", *PYTEST, *conformance(DEBUGGED), seconds=800)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) > 100, done.stdout


CALLS = {
    "use_after_free": (ADDRESS, "heap-use-after-free"),
    "overflow": (ADDRESS, "ABRT"),
    "race": (THREAD, "data race"),
}
CALLER = """
import ctypes, subprocess, sys, threading
import pyjob._native
if sys.argv[2:]:  # in a child, whose end nobody looks at
    subprocess.call([sys.executable, *sys.orig_argv[1:-1]])
    sys.exit()
call = getattr(ctypes.CDLL(pyjob._native.__file__), sys.argv[1])
threads = [threading.Thread(target=call) for _ in range(2)]
for one in threads:
    one.start()
for one in threads:
    one.join()
"""


@pytest.mark.parametrize("fault", CALLS)
def test_a_fault_is_seen(fault: str, sanitized: Callable[[str], Sanitized]) -> None:
    """A look that sees nothing proves nothing: in the tests' process, and in one that it starts."""
    sanitizer, told = CALLS[fault]
    it = sanitized(sanitizer)
    done, report = it.run("-c", CALLER, fault)
    assert done.returncode != 0
    assert told in report and fault in report, f"{report}\n{done.stdout}"
    done, report = it.run("-c", CALLER, fault, "in a child")
    assert done.returncode == 0
    assert told in report and fault in report, f"{report}\n{done.stdout}"
