"""pyjob as type checkers see it: mypy, pyright and stubtest, each without an allowlist."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyjob

HERE = Path(__file__).resolve().parent
SOURCE = Path(os.environ.get("PYJOB_SOURCE", HERE.parents[1]))
PLATFORMS = [("linux", "3.10"), ("win32", "3.12"), ("darwin", "3.14")]

pytest.importorskip("mypy", reason="needs mypy")
pytest.importorskip("pyright", reason="needs pyright")
needs_source = pytest.mark.skipif(not (SOURCE / "pyjob").is_dir(), reason="no sources here (PYJOB_SOURCE)")


# Names that only checkers import are not the module's own; and the other platform's half cannot be imported here.
OTHER = "_posix" if sys.platform == "win32" else "_windows"
STUBTEST = f"[mypy]\nimplicit_reexport = false\nexclude = pyjob/{OTHER}\\.py$\n"


def check(folder, module, *arguments):
    """Runs a checker in an empty folder, so that it finds the installed pyjob and no configuration."""
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "NO_COLOR": "1"}
    env["PATH"] = os.path.dirname(sys.executable) + os.pathsep + env.get("PATH", os.defpath)  # --verifytypes looks here
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=110)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("mypy")


def mypy(folder, cache, *arguments):
    return check(folder, "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", *arguments)


@needs_source
@pytest.mark.parametrize(("platform", "version"), PLATFORMS)
def test_mypy_strict(tmp_path, cache, platform, version):
    done = mypy(tmp_path, cache, "--platform", platform, "--python-version", version, SOURCE / "pyjob")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_source
@pytest.mark.parametrize(("platform", "version"), PLATFORMS)
def test_pyright_strict(tmp_path, platform, version):
    """Over pyjob and over calls.py, as pyproject.toml tells it."""
    name = {"linux": "Linux", "win32": "Windows", "darwin": "Darwin"}[platform]
    done = check(tmp_path, "pyright", "-p", SOURCE, "--pythonplatform", name, "--pythonversion", version, "--warnings")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 errors" in done.stdout


def test_calls_with_mypy(tmp_path, cache):
    done = mypy(tmp_path, cache, HERE / "calls.py")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_calls_with_pyright(tmp_path):
    done = check(tmp_path, "pyright", "--pythonpath", sys.executable, HERE / "calls.py")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def marked(name):
    lines = (HERE / name).read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if "# refused" in line}


def test_mypy_refuses(tmp_path, cache):
    done = mypy(tmp_path, cache, HERE / "refused.py")
    found = {int(line) for line in re.findall(r"refused\.py:(\d+): error:", done.stdout)}
    assert found == marked("refused.py")


def test_pyright_refuses(tmp_path):
    done = check(tmp_path, "pyright", "--outputjson", "--pythonpath", sys.executable, HERE / "refused.py")
    found = {one["range"]["start"]["line"] + 1 for one in json.loads(done.stdout)["generalDiagnostics"]}
    assert found == marked("refused.py")


def test_every_public_symbol_has_a_type(tmp_path):
    done = check(tmp_path, "pyright", "--outputjson", "--verifytypes", "pyjob", "--ignoreexternal")
    report = json.loads(done.stdout)["typeCompleteness"]
    poor = [one["name"] for one in report["symbols"] if one["isExported"] and not one["isTypeKnown"]]
    assert not poor
    assert report["completenessScore"] == 1
    assert report["exportedSymbolCounts"]["withKnownType"] > 100


def test_stubs_against_what_runs(tmp_path):
    """The extension's stub; and the overloads, which are not what is executed: they are taken as the stub of it."""
    (tmp_path / "mypy.ini").write_text(STUBTEST)
    done = check(tmp_path, "mypy.stubtest", "--mypy-config-file", "mypy.ini", "pyjob")
    assert done.returncode == 0, done.stdout + done.stderr
    looked_at = int(re.search(r"no issues found in (\d+) modules", done.stdout)[1])
    assert looked_at >= len(list(Path(pyjob.__file__).parent.glob("*.py")))  # the extension in place of OTHER


OF_RUN = {"input", "capture_output", "check", "timeout", "linger"}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="overloads can be looked at since Python 3.11")
@pytest.mark.parametrize(
    ("name", "more", "less"),
    [
        ("Starts.popen", set(), {"job"}),
        ("Starts.run", OF_RUN, {"job"}),
        ("run", OF_RUN, set()),
        ("check_output", OF_RUN - {"capture_output", "check"}, {"stdout"}),
        ("call", {"timeout", "linger"}, set()),
        ("check_call", {"timeout", "linger"}, set()),
    ],
)
def test_what_is_passed_on_to_popen(name, more, less):
    """Where the run-time signature is **kwargs, stubtest has nothing to compare with: Popen's is what counts."""
    import typing

    from pyjob import _signatures

    function = _signatures
    for part in name.split("."):
        function = getattr(function, part)
    wanted = set(inspect.signature(pyjob.Popen).parameters) | more
    for one in typing.get_overloads(function) or [function]:
        found = set(inspect.signature(one).parameters) - {"self"}
        if "options" in found:
            found = found - {"options"} | set(_signatures.Options.__annotations__)
        assert found == wanted - less
