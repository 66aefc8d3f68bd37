"""What is in the wheel and in the sdist, and that both can be made again, byte for byte."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import pytest

from helpers.wheels import build_sdist, call

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about ELF files")


def readelf(path, *options):
    return subprocess.run(["readelf", "-W", *options, str(path)], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(FREE_THREADED, reason="the limited API knows no free threading before 3.15")
def test_one_wheel_for_every_python(wheel):
    assert re.fullmatch(r"pyjob_native-[\d.]+-cp310-abi3-\w+\.whl", wheel.name)


def test_the_sdist_builds_the_same_wheel(wheel, from_checkout):
    """In another folder, at another time, outside of a repository, with files of other modes."""
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(from_checkout) as other:
        assert one.namelist() == other.namelist()
        different = [name for name in one.namelist() if one.read(name) != other.read(name)]
        assert not different
    assert hashlib.sha256(wheel.read_bytes()).digest() == hashlib.sha256(from_checkout.read_bytes()).digest()


def test_the_sdist_can_be_made_again(sdist, source, tmp_path):
    """From files of another time, with other modes, that lie in another order."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in sorted(source.rglob("*"), reverse=True):
        if path.is_file() and not {"build", "pyjob_native.egg-info"} & set(path.relative_to(source).parts):
            target = copy / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            target.chmod(0o700 if os.access(path, os.X_OK) else 0o600)
    again = build_sdist(copy, tmp_path / "again")
    assert again.name == sdist.name
    assert again.read_bytes() == sdist.read_bytes()


def test_the_floor_is_told_once(source):
    """setup.py's LIMITED_API is what the macro and the tag are made of; what cannot ask it must agree."""
    limit = int(re.search(r"^LIMITED_API = (0x\w+)", (source / "setup.py").read_text(), re.M)[1], 16)
    major, minor = limit >> 24, limit >> 16 & 0xFF
    project = (source / "pyproject.toml").read_text()
    assert f'requires-python = ">={major}.{minor}"' in project
    assert f'build = ["cp{major}{minor}-*"' in project
    assert f'target-version = "py{major}{minor}"' in project
    elsewhere = [*source.glob(".ci/*"), *source.glob("tests/**/*.py"), *source.glob("csrc/**/*.[ch]")]
    copies = [str(one) for one in elsewhere if one.is_file() and re.search(r"0x030[A-Fa-f]0000", one.read_text())]
    assert not copies


def test_what_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        modes = {one.filename: one.external_attr >> 16 for one in archive.infolist()}
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
    assert {name.split("/")[0] for name in names} == {"pyjob"}
    assert {"pyjob/__init__.py", "pyjob/py.typed", "pyjob/_native.pyi"} < names
    assert not [name for name in names if not name.endswith((".py", ".pyi", ".so", "py.typed", "pyjob-guard"))]
    if sys.platform.startswith("linux"):
        assert stat.S_IMODE(modes["pyjob/pyjob-guard"]) & 0o555 == 0o555
    assert "Requires-Python: >=3.10" in metadata
    assert not [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]


def test_what_is_in_the_sdist(sdist, source):
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    made = ("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", "pyjob-guard")
    for pattern in (
        "csrc/**/*",
        "pyjob/*.py*",
        "tests/**/*",
        "docs/**/*",
        ".ci/*",
        ".github/**/*",
        ".clang-*",
        ".pre*",
    ):
        files = [path.relative_to(source) for path in source.glob(pattern) if path.is_file()]
        wanted = {str(path) for path in files if not set(made) & set(path.parts)}
        assert wanted, pattern
        assert wanted <= names, wanted - names
    assert {"pyproject.toml", "setup.py", "LICENSE", "README.md", "CHANGELOG.md"} <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc", "pyjob-guard"))]


@linux
@pytest.mark.tool("readelf")
def test_the_guard_needs_no_library(unzipped):
    guard = unzipped / "pyjob" / "pyjob-guard"
    assert "INTERP" not in readelf(guard, "-l")
    assert "NEEDED" not in readelf(guard, "-d")
    assert "DYN" not in readelf(guard, "-h").split("Type:")[1].split("\n")[0]
    assert re.search(r"GNU_STACK .* RW ", readelf(guard, "-l"))


@linux
@pytest.mark.tool("readelf")
def test_the_extension_needs_libc_alone(unzipped):
    (extension,) = (unzipped / "pyjob").glob("_native*.so")
    needed = re.findall(r"NEEDED.*\[(.*)\]", readelf(extension, "-d"))
    assert {name.split(".")[0] for name in needed} <= {"libc", "libpthread", "ld-linux-x86-64", "ld-linux-aarch64"}
    assert "GNU_RELRO" in readelf(extension, "-l")
    assert "NOW" in readelf(extension, "-d")
    assert not re.search(r"\.(debug|symtab)", readelf(extension, "-S")), "not stripped"
    assert re.search(r"GNU_STACK .* RW ", readelf(extension, "-l"))
    exported = [
        line.split()[-1]
        for line in readelf(extension, "--dyn-syms").splitlines()
        if " DEFAULT " in line and " UND " not in line
    ]
    assert {name for name in exported if not name.startswith("_")} == {"PyInit__native"}


@linux
def test_no_path_of_the_builder(unzipped, source):
    for path in (unzipped / "pyjob").iterdir():
        if path.is_file():
            content = path.read_bytes()
            assert b"ein Pl" not in content, path.name
            assert str(source.parent).encode() not in content, path.name


@pytest.mark.skipif(FREE_THREADED, reason="not an abi3 wheel")
@pytest.mark.parametrize(
    "command",
    [
        ["abi3audit", "--strict", "--assume-minimum-abi3", "3.10"],
        ["twine", "check", "--strict"],
        ["check_wheel_contents"],
    ],
    ids=lambda command: command[0],
)
def test_the_usual_checkers(wheel, sdist, command, tmp_path):
    pytest.importorskip(command[0])
    files = [wheel, sdist] if command[0] == "twine" else [wheel]
    call(sys.executable, "-m", *command, *files, cwd=tmp_path)


@pytest.mark.parametrize(
    ("platform", "architectures", "builds"),
    [
        ("linux", ["x86_64", "aarch64"], ["manylinux", "musllinux"]),
        ("macos", ["x86_64", "arm64"], ["macosx"]),
        ("windows", ["AMD64", "ARM64"], ["win"]),
    ],
)
def test_what_cibuildwheel_will_build(source, tmp_path, platform, architectures, builds):
    pytest.importorskip("cibuildwheel")
    folder = tmp_path / "pyjob"
    folder.mkdir()
    for name in ("pyproject.toml", "setup.py"):
        shutil.copy(source / name, folder)
    told = call(
        sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", platform, folder, cwd=tmp_path,
        CIBW_ARCHS=" ".join(architectures),
    )  # fmt: skip
    wanted = {
        f"{python}-{build}_{arch.lower()}"
        for python in ("cp310", "cp314t")
        for build in builds
        for arch in architectures
    }
    assert set(told.split()) == wanted
