"""The sources compile, link and run for the oldest C library that wheels promise, and for musl.

With zig's compiler; and with a CPython made for musl, which has no GIL either, where the extension is loaded."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from helpers.musl import build_python
from helpers.native import run_apart
from helpers.wheels import call

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about Linux' C libraries"),
    pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="zig is asked for two architectures"),
]
pytest.importorskip("ziglang", reason="needs ziglang")


def compiled(source, folder, python, **environment):
    """The folder with pyjob made by setup.py."""
    shutil.copytree(source, folder / "source", ignore=shutil.ignore_patterns("build"))
    made = ["build_py", "build_ext", "--build-lib", folder / "lib", "--build-temp", folder / "temp"]
    call(python, "setup.py", "-q", *made, cwd=folder / "source", **environment)
    if not (folder / "lib" / "pyjob" / "__init__.py").exists():
        for one in (source / "pyjob").glob("*.py"):
            shutil.copy(one, folder / "lib" / "pyjob")
    return folder / "lib"


@pytest.fixture(scope="module")
def build(source, tmp_path_factory):
    """build("gnu.2.17"): the folder with pyjob made by setup.py with zig as the compiler."""
    cache = tmp_path_factory.mktemp("zig")

    def make(libc):
        compiler = f"{sys.executable} -m ziglang cc -target {platform.machine()}-linux-{libc}"
        caches = {f"ZIG_{one}_CACHE_DIR": str(cache) for one in ("GLOBAL", "LOCAL")}
        return compiled(source, tmp_path_factory.mktemp(libc), sys.executable, CC=compiler, CFLAGS="-O1", **caches)

    return make


def needed(path):
    told = subprocess.run(["readelf", "-W", "-d", "-V", path], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"NEEDED.*\[(.*)\]", told)), {
        tuple(map(int, one.split("."))) for one in re.findall(r"GLIBC_([\d.]+)", told)
    }


@pytest.mark.timeout(400)
@pytest.mark.tool("readelf")
def test_glibc_2_17(build):
    lib = build("gnu.2.17")
    (extension,) = (lib / "pyjob").glob("_native*.so")
    libraries, versions = needed(extension)
    assert {one.split(".")[0] for one in libraries} <= {"libc", "libpthread", "librt", "libdl"}
    assert versions
    assert max(versions) <= (2, 17)
    assert needed(lib / "pyjob" / "pyjob-guard") == (set(), set())
    contained = Path(__file__).resolve().parent / "contained.py"
    assert "process-group" in call(sys.executable, contained, lib / "pyjob", cwd=lib, PYTHONPATH=str(lib))


@pytest.mark.timeout(400)
@pytest.mark.tool("readelf")
def test_musl(build):
    lib = build("musl")
    (extension,) = (lib / "pyjob").glob("_native*.so")
    libraries, versions = needed(extension)
    assert libraries <= {"libc.so", f"libc.musl-{platform.machine()}.so.1"}
    assert not versions
    assert needed(lib / "pyjob" / "pyjob-guard") == (set(), set())


C_TESTS = ["linux/test_procfs.c", "linux/test_cgroupfs.c", "linux/test_tree.c", "posix/test_group.c"]


@pytest.mark.timeout(400)
def test_the_core_runs_with_musl(source, tmp_path):
    """The C tests that need no group of their own."""
    csrc, native = source / "csrc", source / "tests/native"
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", f"{platform.machine()}-linux-musl", "-std=c11", "-O1"]
    zig += ["-D_GNU_SOURCE", *(f"-I{one}" for one in (csrc, native, native / "linux"))]
    cache = {f"ZIG_{one}_CACHE_DIR": str(tmp_path / "cache") for one in ("GLOBAL", "LOCAL")}
    core = [file for part in ("core", "posix", "linux") for file in sorted((csrc / part).glob("*.c"))]
    for file in core:
        call(*zig, "-c", file, "-o", tmp_path / f"{file.stem}.o", cwd=tmp_path, **cache)
    for name in C_TESTS:
        program = tmp_path / Path(name).stem
        call(*zig, "-static", native / name, *sorted(tmp_path.glob("*.o")), "-o", program, cwd=tmp_path, **cache)
        assert needed(program) == (set(), set())
        done = run_apart(program)
        assert done.returncode == 0, done.stdout


ON_MUSL = ["dropping", "members", "process_handle", "threads"]
if os.environ.get("PYJOB_AGAIN") == "all":
    ON_MUSL = ["*"]
PURE = ["pytest", "pluggy", "iniconfig", "packaging", "pygments", "pytest-timeout", "setuptools"]


@pytest.mark.timeout(4000)
@pytest.mark.tool("apt-get", "cc", "make", "musl-gcc")
def test_an_interpreter_of_musl_without_a_gil(source, tmp_path):
    python = build_python(tmp_path)
    site = tmp_path / "site"
    for name in PURE:
        for file in metadata.files(name) or ():
            if ".." not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), site / file)
    lib = compiled(source, tmp_path, python, PYTHONPATH=str(site))
    (extension,) = (lib / "pyjob").glob("_native.cpython-313t-*-linux-musl.so")
    assert needed(extension) == ({"libc.so"}, set())

    tests = Path(__file__).resolve().parent.parent
    files = [file for name in ON_MUSL for file in sorted((tests / "conformance").glob(f"test_{name}.py"))]
    env = ["env", f"PYTHONPATH={lib}:{site}"]
    ask = "import sys, pyjob; assert not sys._is_gil_enabled(); print(pyjob._native.__file__)"
    assert call(*env, python, "-c", ask, cwd=tmp_path).strip() == str(extension)
    options = ["-p", "no:cacheprovider", "-q", "--color=no"]
    done = run_apart(*env, python, "-m", "pytest", *options, *files, seconds=3500)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"^(\d+) passed", done.stdout, re.M)
    assert passed and int(passed[1]) > 100, done.stdout
