"""Wheels built for the tests of this folder, once a run: from a source tree, and from the sdist in another place."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from helpers.wheels import build_sdist, build_wheel

SOURCE = Path(os.environ.get("PYJOB_SOURCE", Path(__file__).resolve().parents[2]))


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """A copy of the sources, as a checkout would have them."""
    if sys.platform == "win32" or not (SOURCE / "setup.py").is_file():
        pytest.skip("needs the sources (PYJOB_SOURCE) and a compiler like gcc")
    folder = tmp_path_factory.mktemp("checkout") / "pyjob"
    skip = shutil.ignore_patterns(
        ".git", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "*.so", "pyjob-guard"
    )
    shutil.copytree(SOURCE, folder, ignore=skip)
    for path in folder.rglob("*"):
        path.chmod(path.stat().st_mode | 0o020)  # as of a user whose umask is 002
    return folder


@pytest.fixture(scope="session")
def sdist(source, tmp_path_factory):
    return build_sdist(source, tmp_path_factory.mktemp("one") / "sdist")


@pytest.fixture(scope="session")
def from_checkout(source, tmp_path_factory):
    return build_wheel(source, tmp_path_factory.mktemp("one") / "wheel")


@pytest.fixture(scope="session")
def wheel(sdist, tmp_path_factory):
    """From the sdist, in a folder whose name has a space and a letter outside of ASCII, far from any repository."""
    folder = tmp_path_factory.mktemp("other") / "ein Plätzchen"
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (unpacked,) = folder.iterdir()
    return build_wheel(unpacked, folder.parent / "wheel")


@pytest.fixture(scope="session")
def unzipped(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unzipped")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder
