"""Every example of README and docs, in Python and for a shell, runs as it is printed, on the default backend."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.procs import DEADLINE

SOURCE = Path(os.environ.get("PYJOB_SOURCE", Path(__file__).resolve().parents[2]))
PAGES = [SOURCE / "README.md", SOURCE / "CONTRIBUTING.md", *sorted((SOURCE / "docs").glob("*.md"))]
pytestmark = [
    pytest.mark.skipif(not PAGES[0].is_file(), reason="no sources here (PYJOB_SOURCE)"),
    pytest.mark.skipif(sys.platform == "win32", reason="the examples start a shell's programs"),
]

# What the examples take for granted: programs that serve, make and build, and somebody's PID.
PROGRAMS = {
    "server": "exec sleep 300",
    "build": "sleep 300 >log.2 2>&1 & echo built",
    "worker": "echo worked",
    "bin/make": 'echo "made $*"',
}
SOMEBODY = "4711"
# For a shell, but not for this one: how they begin, and why.
NOT_HERE = {
    "python3 -m venv": "installs, as tests/run.py does",
    ".venv/bin/pip": "installs; see tests/run.py, platform/linux/test_bench.py and docs/test_site.py",
    "systemd-run": "needs a session of systemd",
}

LANGUAGES = {"python": [sys.executable, "-W", "error"], "sh": ["sh", "-e"]}


def examples():
    for page in PAGES:
        if page.is_file():
            text = page.read_text()
            for found in re.finditer(r"^```(python|sh)\n(.*?)^```$", text, re.M | re.S):
                line = text.count("\n", 0, found.start()) + 2
                yield pytest.param(*found.groups(), id=f"{page.name}:{line}")


def test_there_are_examples():
    assert len(list(examples())) >= 4


@pytest.mark.parametrize(("language", "example"), examples())
def test_example(language, example, folder, bystander):
    for begin, why in NOT_HERE.items():
        if language == "sh" and example.startswith(begin):
            pytest.skip(why)
    for name, script in PROGRAMS.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    somebody = subprocess.Popen(["sleep", "300"])
    try:
        path = [folder / "bin", Path(sys.executable).parent, os.environ.get("PATH", os.defpath)]
        env = {**os.environ, "PATH": os.pathsep.join(map(str, path))}
        program = folder / "example"
        program.write_text(example.replace(SOMEBODY, str(somebody.pid)))
        command = [*LANGUAGES[language], str(program)]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=2 * DEADLINE)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not done.stderr
        assert SOMEBODY not in example or somebody.wait(DEADLINE) == -9
        bystander.assert_alive()
    finally:
        somebody.kill()
        somebody.wait(DEADLINE)
