"""Builds wheels with what the test environment has, for the tests in packaging/."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SINCE = "1700000000"  # SOURCE_DATE_EPOCH


def call(*command: object, cwd: Path, **more: str) -> str:
    env = {**os.environ, "SOURCE_DATE_EPOCH": SINCE, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
    return done.stdout


def build_sdist(folder: Path, out: Path) -> Path:
    out.mkdir()
    script = "import setuptools.build_meta as build, sys; build.build_sdist(sys.argv[1])"
    call(sys.executable, "-c", script, out, cwd=folder)
    (made,) = out.glob("*.tar.gz")
    return made


def build_wheel(folder: Path, out: Path) -> Path:
    call(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        out,
        folder,
        cwd=out.parent,
    )
    (wheel,) = out.glob("*.whl")
    return wheel
