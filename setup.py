"""Builds pyjob._native and, on Linux, the guard. What can be declared is in pyproject.toml.

The platform is chosen here, by source list: no C file asks where it is compiled."""

import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

HERE = Path(__file__).parent

LIMITED_API = 0x030A0000  # the one constant behind the macro, the wheel's tag and the floor in pyproject.toml
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))  # has no limited API before Python 3.15

CORE = ["core/pids.c"]
BINDING = ["module.c", "job.c", "job_ops.c", "process.c", "convert.c", "raise.c"]
POSIX = [f"posix/{path.name}" for path in sorted((HERE / "csrc/posix").glob("*.c"))] + ["core/family.c"]
BSD = POSIX + [f"bsd/{path.name}" for path in sorted((HERE / "csrc/bsd").glob("*.c"))]
PLATFORMS: dict[str, list[str]] = {
    "linux": POSIX
    + [f"linux/{path.name}" for path in sorted((HERE / "csrc/linux").glob("*.c"))]
    + ["py/os_posix.c", "py/spawn_posix.c"],
    "darwin": BSD
    + [f"darwin/{path.name}" for path in sorted((HERE / "csrc/darwin").glob("*.c"))]
    + ["py/os_posix.c", "py/spawn_posix.c"],
    "freebsd": BSD
    + [f"freebsd/{path.name}" for path in sorted((HERE / "csrc/freebsd").glob("*.c"))]
    + ["py/os_posix.c", "py/spawn_posix.c"],
    "win": [f"win/{path.name}" for path in sorted((HERE / "csrc/win").glob("*.c"))] + ["py/os_win.c", "py/spawn_win.c"],
}

# What the guard executable is made of: no C library, so it is small and depends on nothing (csrc/guard/main.c).
GUARD = (
    [f"guard/{name}.c" for name in ("main", "reaper", "program", "watch", "libc")]
    + ["core/pids.c", "posix/clock.c", "posix/child.c"]
    + [f"linux/{name}.c" for name in ("protocol", "start", "procfs", "pidref", "tree", "hunt", "view", "tracer")]
    + [f"linux/{name}.c" for name in ("sweep", "stage")]
)
GUARD_FLAGS = (
    "-std=c11 -D_GNU_SOURCE -U_FORTIFY_SOURCE -Os -Wall -Wextra -ffreestanding -fno-builtin -fno-stack-protector "
    "-fno-asynchronous-unwind-tables -fno-pie -ffunction-sections"
)
GUARD_LINK = "-nostdlib -static -no-pie -Wl,--gc-sections -Wl,--build-id=none -Wl,-z,norelro -Wl,-z,noexecstack -s"
# GNU ld can lay it out in one segment less; lld (zig) does not know the word, and brings itself what libgcc is for.
GUARD_LINK_EITHER = (["-Wl,-z,noseparate-code", "-lgcc"], [])

# Where the checkout lies must not show in what is built.
REPRODUCIBLE = [f"-ffile-prefix-map={HERE.resolve()}=."]


def platform() -> str:
    for prefix, name in (("linux", "linux"), ("darwin", "darwin"), ("freebsd", "freebsd"), ("win", "win")):
        if sys.platform.startswith(prefix):
            return name
    raise SystemExit(f"pyjob has no backend for {sys.platform}")


def sources(name: str) -> list[str]:
    return [f"csrc/{file}" for file in [*CORE, *PLATFORMS[name], *(f"py/{file}" for file in BINDING)]]


def plain_mode(mode: int) -> int:
    """What is left of a mode in an archive: those of the checkout and the umask must not show."""
    return 0o755 if mode & 0o100 else 0o644


class Build(build_ext):
    def build_extension(self, ext: Extension) -> None:
        if self.compiler.compiler_type == "msvc":
            ext.extra_compile_args = ["/std:c11", "/experimental:c11atomics", "/W3", "/Brepro"]
            ext.extra_link_args = ["/Brepro"]  # in the place of the time, a hash of the contents
        else:
            ext.extra_compile_args = ["-std=c11", "-Wall", "-Wextra", "-fvisibility=hidden", "-D_GNU_SOURCE"]
            ext.extra_compile_args += REPRODUCIBLE
        if platform() == "linux":
            ext.extra_link_args = ["-Wl,-z,relro,-z,now", "-s"]
        elif platform() == "darwin":
            ext.extra_link_args = ["-Wl,-S"]  # debug entries tell where each object file lay
        super().build_extension(ext)
        if platform() == "linux":
            self.build_guard(Path(self.get_ext_fullpath(ext.name)).parent / "pyjob-guard")

    def build_guard(self, target: Path) -> None:
        compiler = (os.environ.get("PYJOB_GUARD_CC") or os.environ.get("CC") or "cc").split()
        temp = Path(self.build_temp, "guard")
        objects = []
        for file in GUARD:
            objects.append(str(temp / file) + ".o")
            Path(objects[-1]).parent.mkdir(parents=True, exist_ok=True)
            command = [
                *compiler,
                *GUARD_FLAGS.split(),
                *REPRODUCIBLE,
                f"-I{HERE / 'csrc'}",
                "-c",
                str(HERE / "csrc" / file),
            ]
            subprocess.run([*command, "-o", objects[-1]], check=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        for more in GUARD_LINK_EITHER:
            command = [*compiler, *GUARD_LINK.split(), *objects, *more, "-o", str(target)]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode == 0:
                break
        else:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}")
        target.chmod(0o755)


class Wheel(bdist_wheel):
    def write_wheelfile(self, *args, **kwargs):  # the last one, when all the others are there
        super().write_wheelfile(*args, **kwargs)
        for path in filter(Path.is_file, Path(self.bdist_dir).rglob("*")):
            path.chmod(plain_mode(path.stat().st_mode))


class Archive(sdist):
    """setuptools takes times, owners and modes from the checkout: with SOURCE_DATE_EPOCH only the contents count."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if epoch is None or format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, owner, group)

        import gzip  # only here: a Python without zlib can build, too

        def bare(info: tarfile.TarInfo) -> tarfile.TarInfo:
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mtime = int(epoch)
            info.mode = plain_mode(info.mode)
            return info

        path = f"{base_name}.tar.gz"
        self.mkpath(os.path.dirname(path))
        with (
            open(path, "wb") as file,
            gzip.GzipFile("", "wb", 9, file, int(epoch)) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for one in [Path(base_dir), *sorted(Path(base_dir).rglob("*"))]:
                archive.add(one, recursive=False, filter=bare)
        return path


native = Extension(
    "pyjob._native",
    sources(platform()),
    include_dirs=["csrc", "csrc/py"],
    depends=[str(path.relative_to(HERE)) for path in sorted((HERE / "csrc").rglob("*.[ch]"))],
    define_macros=[] if FREE_THREADED else [("Py_LIMITED_API", f"0x{LIMITED_API:08x}")],
    libraries=["advapi32", "ntdll", "user32"] if platform() == "win" else [],
    py_limited_api=not FREE_THREADED,
)

if __name__ == "__main__":
    tag = f"cp{LIMITED_API >> 24}{LIMITED_API >> 16 & 0xFF}"
    setup(
        ext_modules=[native],
        cmdclass={"build_ext": Build, "bdist_wheel": Wheel, "sdist": Archive},
        options={} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": tag}},
    )
