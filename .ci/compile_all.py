"""Compiles the C sources with -Werror for every platform that a wheel is made for, by one cross compiler (zig).

A compile check, not a test: what runs is tested on Linux, and on Windows under Wine. The guard is linked, too."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(CHECKOUT)]

import setup  # noqa: E402 - it does nothing unless it is run

CSRC = CHECKOUT / "csrc"
ZIG = [sys.executable, "-m", "ziglang", "cc", "-target"]
STRICT = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{CSRC}", f"-I{CSRC / 'py'}"]

TARGETS = {
    "x86_64-linux-gnu.2.17": "linux",
    "aarch64-linux-gnu.2.17": "linux",
    "x86_64-linux-musl": "linux",
    "aarch64-linux-musl": "linux",
    "x86_64-macos": "darwin",
    "aarch64-macos": "darwin",
    "x86_64-freebsd": "freebsd",
    "x86_64-windows-gnu": "win",
    "aarch64-windows-gnu": "win",
}

# What manylinux2014 has of Linux 3.10, and zig of today: calls above finit_module(2), and constants that they brought.
OLD_HEADERS = "linux-gnu.2.17"
LAST_CALL = {"x86_64": 313, "aarch64": 273}
YOUNGER = ["CLONE_INTO_CGROUP", "CLONE_PIDFD", "CLOSE_RANGE_CLOEXEC", "CLOSE_RANGE_UNSHARE", "MFD_CLOEXEC", "P_PIDFD"]


def sources(platform: str) -> list[Path]:
    """As in setup.py, whose lists are by platform too."""
    chosen = [*setup.CORE, *setup.PLATFORMS[platform], *(f"py/{name}" for name in setup.BINDING)]
    if platform == "linux":
        chosen += setup.GUARD
    return sorted({CSRC / name for name in chosen})


def compile_one(target: str, source: Path, folder: Path) -> str:
    """ "" or what the compiler said."""
    guard = source.parent.name == "guard"
    flags = ["-D_GNU_SOURCE"] if "linux" in target else []
    if OLD_HEADERS in target and source.parent.name != "py":  # where no system call is made
        flags += ["-include", str(folder / f"{target}.h")]
    if source.parent.name == "py":
        include = folder / "windows" if "windows" in target else sysconfig.get_path("include")
        flags += [f"-DPy_LIMITED_API=0x{setup.LIMITED_API:08x}", f"-I{include}"]
    if guard:
        flags += ["-ffreestanding", "-fno-stack-protector"]
    out = folder / f"{target}-{source.parent.name}-{source.stem}.o"
    command = [*ZIG, target, *STRICT, *flags, "-c", str(source), "-o", str(out)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    return "" if result.returncode == 0 else f"{target}: {source.relative_to(CHECKOUT)}\n{result.stderr}"


def headers_for_windows(folder: Path) -> None:
    """This machine's, but for pyconfig.h."""
    shutil.copytree(sysconfig.get_path("include"), folder, ignore=shutil.ignore_patterns("pyconfig.h"))
    shutil.copy(CHECKOUT / "tests/windows/shim/pyconfig.h", folder)


def headers_of_linux_3_10(target: str, folder: Path) -> None:
    """Those of this target with all taken back that is younger."""
    begin = "".join(f"#include <{one}.h>\n" for one in ("fcntl", "sched", "sys/mman", "sys/syscall", "sys/wait"))
    header = folder / f"{target}.h"
    header.write_text(begin)
    command = [*ZIG, target, "-D_GNU_SOURCE", "-E", "-dM", "-x", "c", str(header)]
    defined = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=True).stdout
    last = LAST_CALL[target.split("-")[0]]
    calls = [name for name, number in re.findall(r"#define __NR_(\w+) (\d+)$", defined, re.M) if int(number) > last]
    assert "close_range" in calls
    undefined = YOUNGER + [f"{prefix}_{name}" for name in calls for prefix in ("SYS", "__NR")]
    header.write_text(begin + "".join(f"#undef {name}\n" for name in undefined))


def link_guard(target: str, folder: Path) -> str:
    """ "" or what the linker said."""
    place = folder / f"{target}-guard"
    place.mkdir()
    flags = [*setup.GUARD_FLAGS.split(), f"-I{CSRC}"]
    objects = [f"{Path(file).stem}.o" for file in setup.GUARD]
    commands = [[*flags, "-c", str(CSRC / file), "-o", out] for file, out in zip(setup.GUARD, objects, strict=True)]
    for command in [*commands, [*setup.GUARD_LINK.split(), *objects, "-o", "pyjob-guard"]]:
        result = subprocess.run([*ZIG, target, *command], capture_output=True, text=True, cwd=place)
        if result.returncode:
            return f"{target}: the guard\n{result.stderr}"
    return ""


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(folder / "zig"))
        headers_for_windows(folder / "windows")
        for target in [one for one in TARGETS if OLD_HEADERS in one]:
            headers_of_linux_3_10(target, folder)
        todo = [(target, source) for target, platform in TARGETS.items() for source in sources(platform)]
        with ThreadPoolExecutor(2) as pool:
            said = [*pool.map(lambda pair: compile_one(*pair, folder), todo)]
            said += pool.map(lambda target: link_guard(target, folder), [one for one in TARGETS if "linux" in one])
    complaints = [one for one in said if one]
    for one in complaints:
        print(one)
    print(f"{len(todo)} compilations for {len(TARGETS)} targets, {len(complaints)} failed")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
