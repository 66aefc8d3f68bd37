"""The C core, built with sanitizers from its sources; and programs run apart from the test's own session and group."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pyjob

SOURCE = Path(os.environ.get("PYJOB_SOURCE", Path(__file__).resolve().parents[2]))
NATIVE = SOURCE / "tests/native"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-fno-omit-frame-pointer", "-Wall", "-Wextra", "-Werror", "-pthread"]
# What runs in a child on the caller's stack, and leaves it by exec, would leave the sanitizers' marks on it.
PLAIN = ("posix/child.c", "linux/guard.c")
BARE = ["-include", "bare.h"]


def compile(target: Path, *options: str | Path, compiler: str = "cc", flags: list[str] = FLAGS) -> None:
    include = [f"-I{one}" for one in (SOURCE / "csrc", NATIVE, NATIVE / "linux")]
    command = [compiler, *flags, *include, *map(str, options), "-o", str(target)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"


class Library:
    """All that the owner's side is made of on Linux, as one archive: a program takes out of it what it uses."""

    def __init__(self, folder: Path, sanitizer: str) -> None:
        self.folder = folder
        self.sanitize = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
        self.path = folder / "libpyjob.a"
        folder.mkdir()
        objects = []
        for source in [one for part in ("core", "posix", "linux") for one in (SOURCE / "csrc" / part).glob("*.c")]:
            objects.append(folder / f"{source.parent.name}-{source.stem}.o")
            plain = str(source.relative_to(SOURCE / "csrc")) in PLAIN
            compile(objects[-1], "-c", "-fPIC", *(BARE if plain else self.sanitize), source)
        subprocess.run(["ar", "rcs", str(self.path), *map(str, objects)], check=True)

    def program(self, source: Path) -> Path:
        target = self.folder / source.stem
        compile(target, *self.sanitize, source, self.path)
        return target

    def package(self, *more: Path) -> Path:
        """pyjob as it is installed, its extension made of this library and of `more`; the guard stays what it is."""
        package = self.folder / "path" / "pyjob"
        shutil.copytree(Path(pyjob.__file__).parent, package)
        (extension,) = package.glob("_native.*.so")
        binding = [one for one in (SOURCE / "csrc/py").glob("*.c") if not one.stem.endswith("_win")]
        include = ["-isystem", sysconfig.get_path("include"), f"-I{SOURCE / 'csrc/py'}"]
        options = ["-shared", "-fPIC", "-Wno-missing-field-initializers", *include, *self.sanitize]
        compile(extension, *options, *binding, *more, self.path)
        return package


def run_apart(
    *command: str | Path, cgroup: Path | None = None, seconds: float = 280
) -> subprocess.CompletedProcess[str]:
    """In a session of its own and, if given, in that group; its output is for whoever looks at a failure."""
    enter = 'echo 0 > "$0/cgroup.procs" && exec "$@"' if cgroup else 'exec "$@"'
    return subprocess.run(
        ["sh", "-c", enter, str(cgroup), *map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds,
        start_new_session=True,
    )
