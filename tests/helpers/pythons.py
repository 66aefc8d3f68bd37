"""The CPythons of this machine."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

PROBE = """
import sys, sysconfig, {module}
print(*sys.version_info[:2], sysconfig.get_config_var("Py_GIL_DISABLED") or 0, sys.executable)
"""


@functools.cache
def pythons(module: str = "sys") -> dict[tuple[int, int], str]:
    """Each version from 3.10 on, if it has the module: the one that runs, and those with a GIL on PATH or beside it."""
    programs = [sys.executable]
    if sys.platform != "win32":  # under Wine, PATH and the home hold programs of another system
        folders = [Path(one) for one in os.environ.get("PATH", os.defpath).split(os.pathsep)]
        homes = [Path(os.path.realpath(sys.base_prefix)).parent]
        if pyenv := shutil.which("pyenv"):
            homes.append(Path(pyenv).parent.parent / "versions")
        folders += [one / "bin" for home in homes if home.name == "versions" for one in sorted(home.iterdir())]
        programs += [str(folder / f"python3.{minor}") for folder in folders for minor in range(10, 16)]
    found: dict[tuple[int, int], str] = {}
    for path in filter(lambda one: os.access(one, os.X_OK), programs):
        done = subprocess.run([path, "-c", PROBE.format(module=module)], capture_output=True, text=True)
        if done.returncode == 0:
            major, minor, free, program = done.stdout.strip().split(" ", 3)
            if free == "0" or path == sys.executable:
                found.setdefault((int(major), int(minor)), program)
    return dict(sorted(found.items()))
