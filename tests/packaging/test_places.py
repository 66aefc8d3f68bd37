"""One wheel in many places, under every Python of this machine, and with a guard that is not what it should be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from helpers.pythons import pythons
from helpers.wheels import call

HERE = Path(__file__).resolve().parent
CONTAINED = HERE / "contained.py"
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about the guard")


EVERY_PYTHON = pytest.mark.parametrize(
    "python", [pytest.param(path, id=f"{version[0]}.{version[1]}") for version, path in pythons().items()]
)


def use(python, place, *, program=CONTAINED, arguments=None):
    """The place's pyjob under that Python. A bytecode cache would be written into the place."""
    arguments = [place / "pyjob"] if arguments is None else arguments
    return call(
        python,
        program,
        *arguments,
        cwd=place.parent,
        PYTHONPATH=str(place),
        PYTHONDONTWRITEBYTECODE="1",
        PYTHONUTF8="1",
    )


@pytest.fixture(scope="module")
def target(wheel, tmp_path_factory):
    place = tmp_path_factory.mktemp("target") / "packages"
    call(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", place, wheel, cwd=place.parent)
    return place


@pytest.mark.skipif(FREE_THREADED, reason="not an abi3 wheel")
@EVERY_PYTHON
def test_every_python_of_this_machine(target, python):
    assert "process-group" in use(python, target)


@EVERY_PYTHON
@pytest.mark.parametrize("gil", ["own", "shared"])
@pytest.mark.skipif(FREE_THREADED, reason="not an abi3 wheel")
def test_two_interpreters_in_one_process(target, python, gil):
    """With a GIL of their own where there is such a thing: Python 3.12 and later."""
    use(python, target, program=HERE / "interpreters.py", arguments=[gil, "in turns"])


@EVERY_PYTHON
@pytest.mark.parametrize("gil", ["own", "shared"])
@pytest.mark.skipif(FREE_THREADED, reason="not an abi3 wheel")
def test_two_interpreters_at_once(request, target, python, gil):
    if request.node.callspec.id.rsplit("-", 1)[-1] in ("3.10", "3.11", "3.12"):
        pytest.skip(
            "before Python 3.13 interpreters in two threads deadlock, with the standard library's subprocess, too"
        )
    use(python, target, program=HERE / "interpreters.py", arguments=[gil, "at once"])


@pytest.mark.parametrize("name", ["a place with spaces", "Плätze 場所", "quote'and\"more"])
def test_names_of_folders(target, tmp_path, name):
    place = tmp_path / name / "lib"
    shutil.copytree(target, place)
    use(sys.executable, place)


@linux
@pytest.mark.parametrize("name, locale", [(b"caf\xe9", "C.UTF-8"), ("café".encode(), "C")])
def test_a_folder_whose_name_the_locale_cannot_write(target, tmp_path, name, locale):
    """No path goes to the guard by way of UTF-8."""
    place = os.fsencode(tmp_path) + b"/" + name
    shutil.copytree(os.fsencode(target), place)
    code = """
import pyjob
for row in pyjob.backends():
    if row.available:
        assert pyjob.run(["true"], backend=row.name).returncode == 0
    print(row.name)
"""
    environment = {"PYTHONPATH": place, "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": locale}
    environment |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:backslashreplace"}

    def run(code):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=os.environ | environment)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout

    assert b"process-group" in run(code)
    os.unlink(place + b"/pyjob/pyjob-guard")
    assert b"WORKED" not in run(WITHOUT_GUARD)
    shutil.rmtree(place)


def test_user_site(wheel, tmp_path):
    base = getattr(sys, "_base_executable", sys.executable)
    if subprocess.run([base, "-c", "import site; assert site.ENABLE_USER_SITE"], cwd=tmp_path).returncode:
        pytest.skip("this Python has no user site")
    user = {"PYTHONUSERBASE": str(tmp_path / "user"), "PIP_BREAK_SYSTEM_PACKAGES": "1"}
    pip = [sys.executable, "-m", "pip", "--python", base]
    call(*pip, "install", "-q", "--user", "--no-deps", "--no-warn-script-location", wheel, cwd=tmp_path, **user)
    (place,) = (tmp_path / "user").glob("lib*/**/site-packages/pyjob")
    assert "process-group" in call(base, CONTAINED, place, cwd=tmp_path, **user)
    (script,) = (tmp_path / "user").glob("bin/pyjob")
    assert "process-group" in call(script, "backends", cwd=tmp_path, **user)


def test_a_read_only_folder(target, tmp_path):
    """Nothing is written beside the modules, and nothing there is needed but to be read and executed."""
    place = tmp_path / "lib"
    shutil.copytree(target, place)
    folders = [place, *(one for one in place.rglob("*") if one.is_dir())]
    for one in place.rglob("*"):
        if one.is_file():
            one.chmod(one.stat().st_mode & ~0o222)
    for one in folders:
        one.chmod(0o555)
    before = sorted(place.rglob("*"))
    mounted = os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    try:
        if mounted:  # root may write wherever the mode says no
            script = (
                'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && ! touch "$1/x" 2>/dev/null &&'
                ' exec "$2" "$3" "$1/pyjob"'
            )
            command = ["unshare", "-m", "sh", "-c", script, "sh", place, sys.executable, CONTAINED]
            said = call(*command, cwd=tmp_path, PYTHONPATH=str(place))
        else:
            said = use(sys.executable, place)
        assert "process-group" in said
        assert sorted(place.rglob("*")) == before
    finally:
        for one in folders:
            one.chmod(0o755)


WITHOUT_GUARD = """
import sys
import pyjob
for name in ("reaper", "cgroup"):
    try:
        with pyjob.Job(backend=name) as job, job.popen([sys.executable, "-c", ""]) as program:
            program.wait()
    except OSError as error:
        print(name, type(error).__name__, error)
    else:
        print(name, "WORKED")
with pyjob.Job(backend="process-group") as job:
    assert job.run([sys.executable, "-c", ""]).returncode == 0
"""


@linux
@pytest.mark.parametrize("how", ["missing", "not executable", "a folder", "not a program"])
def test_a_guard_that_cannot_be_used(target, tmp_path, how):
    """Told with its path, at the first job: nothing weaker is taken silently."""
    place = tmp_path / "lib"
    shutil.copytree(target, place)
    guard = place / "pyjob" / "pyjob-guard"
    if how == "not executable":
        guard.chmod(0o644)
    else:
        guard.unlink()
    if how == "a folder":
        guard.mkdir()
    if how == "not a program":
        guard.write_text("text")
        guard.chmod(0o755)
    program = tmp_path / "program.py"
    program.write_text(WITHOUT_GUARD)
    said = use(sys.executable, place, program=program, arguments=[]).splitlines()
    assert [line.split(" ")[0] for line in said] == ["reaper", "cgroup"]
    for line in said:
        assert "WORKED" not in line
        assert str(guard) in line or "control group" in line, line  # where none can be made, that is said first
