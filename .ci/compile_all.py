"""Compiles the C sources with -Werror for every platform that a wheel is made for, by one cross compiler (zig).

A compile check, not a test: what runs is tested on Linux, and on Windows under Wine. The binding is left out for
Windows,
whose pyconfig.h is not at hand here; tests/windows/bed.py compiles and runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
CSRC = CHECKOUT / "csrc"
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


def sources(platform: str) -> list[Path]:
    """As in setup.py, whose lists are by platform too."""
    sys.path[:0] = [str(CHECKOUT)]
    import setup

    chosen = [*setup.CORE, *setup.PLATFORMS[platform], *(f"py/{name}" for name in setup.BINDING)]
    if platform == "linux":
        chosen += setup.GUARD
    if platform == "win":
        chosen = [name for name in chosen if not name.startswith("py/")]
    return sorted({CSRC / name for name in chosen})


def compile_one(target: str, source: Path, folder: Path) -> str:
    """ "" or what the compiler said."""
    guard = source.parent.name == "guard"
    flags = ["-D_GNU_SOURCE"] if "linux" in target else []
    if source.parent.name == "py":
        flags += ["-DPy_LIMITED_API=0x030A0000", f"-I{sysconfig.get_path('include')}"]
    if guard:
        flags += ["-ffreestanding", "-fno-stack-protector"]
    out = folder / f"{target}-{source.parent.name}-{source.stem}.o"
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        target,
        *STRICT,
        *flags,
        "-c",
        str(source),
        "-o",
        str(out),
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    return "" if result.returncode == 0 else f"{target}: {source.relative_to(CHECKOUT)}\n{result.stderr}"


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(folder / "zig"))
        todo = [(target, source) for target, platform in TARGETS.items() for source in sources(platform)]
        with ThreadPoolExecutor(2) as pool:
            complaints = [one for one in pool.map(lambda pair: compile_one(*pair, folder), todo) if one]
    for one in complaints:
        print(one)
    print(f"{len(todo)} compilations for {len(TARGETS)} targets, {len(complaints)} failed")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
