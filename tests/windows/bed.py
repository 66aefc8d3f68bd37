"""Runs programs and tests on real CPython for Windows, under Wine.

    python tests/windows/bed.py pytest ARGS…       this checkout's tests, ARGS as for pytest
    python tests/windows/bed.py exec ARGS…         python.exe ARGS
    python tests/windows/bed.py build              only compile and lay out

The pieces come from where package clients get them: Wine and mingw-w64 from the distribution, python3XX.dll with its
extension modules from the win_amd64 wheel of panda3d (which carries CPython's official binaries), the standard library
from any installed CPython of the same minor version. They are kept in a cache outside of the checkout, together with
one Wine prefix per checkout, so that a second run starts in seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
sys.path[:0] = [str(HERE)]

from pe import exports  # noqa: E402

PANDA3D = "panda3d==1.10.16"  # with win_amd64 wheels for CPython 3.8 to 3.14
TEST_WHEELS = ["pytest", "pytest-timeout", "pytest-rerunfailures", "psutil", "colorama"]
TEST_WHEELS_310 = [
    "exceptiongroup",
    "tomli",
    "typing_extensions",
]  # pip asks markers of its own Python, not of the target
MINGW = "x86_64-w64-mingw32-gcc"
STRICT = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"]
SILENT: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class Unavailable(Exception):
    """Something that the bed is made of is not on this machine."""


def run(*command: object) -> None:
    argv = [str(part) for part in command]
    done = subprocess.run(argv, **{**SILENT, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}, timeout=600)
    if done.returncode:
        raise SystemExit(f"bed: {' '.join(argv[:6])} … failed:\n{done.stdout.decode(errors='replace')}")


def digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


@contextlib.contextmanager
def locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, how)
        yield file.fileno()


# ---- the compiler ----


class Toolchain:
    """mingw-w64 where it is installed, else zig (`pip install ziglang`)."""

    def __init__(self) -> None:
        self.zig = not shutil.which(MINGW)
        if self.zig:
            probe = [sys.executable, "-m", "ziglang"]
            if subprocess.run([*probe, "version"], capture_output=True).returncode:
                raise Unavailable(f"neither {MINGW} nor ziglang is installed")
            self.cc = [*probe, "cc", "-target", "x86_64-windows-gnu"]
            self.dlltool = [*probe, "dlltool", "-m", "i386:x86-64"]
        else:
            self.cc = [MINGW]
            self.dlltool = [MINGW.replace("gcc", "dlltool")]

    def link(self, output: Path, *arguments: object) -> None:
        """Whole or not at all: others may be loading the file that is replaced."""
        fresh = output.with_name(f".{os.getpid()}{output.name}")
        run(*self.cc, *arguments, "-s", "-o", fresh)
        for extra in output.parent.glob(f".{os.getpid()}*.pdb"):
            extra.unlink()
        fresh.replace(output)

    def import_library(self, definition: Path, library: Path) -> None:
        run(*self.dlltool, "-d", definition, "-l", library)


# ---- CPython ----


def host_python(version: str) -> tuple[Path, Path]:
    """Standard library and headers of an installed CPython of this minor version."""
    ask = (
        "import sys, sysconfig; print(*sys.version_info[:2], *map(sysconfig.get_path, ('stdlib', 'include')), sep='|')"
    )
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [sys.executable, f"python{version}", *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
    for candidate in candidates:
        with contextlib.suppress(OSError):
            done = subprocess.run([candidate, "-I", "-c", ask], capture_output=True, text=True)
            fields = done.stdout.strip().split("|")
            if done.returncode == 0 and ".".join(fields[:2]) == version and Path(fields[3], "Python.h").exists():
                return Path(fields[2]), Path(fields[3])
    raise Unavailable(f"no CPython {version} with headers is installed, from which to take the standard library")


def download(cache: Path, version: str, *names: str) -> list[Path]:
    folder = cache / "wheels" / digest(version, *names)
    done = folder / "complete"
    if not done.exists():
        run(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", folder,
            "--platform", "win_amd64", "--python-version", version, "--only-binary=:all:", *names)  # fmt: skip
        done.touch()
    return sorted(folder.glob("*.whl"))


def unpack(wheel: Path, target: Path, prefix: str = "") -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(prefix) and not name.endswith("/"):
                path = target / name[len(prefix) :]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(name))


def define(library: Path, names: list[tuple[str, bool]], path: Path, forward: str = "") -> None:
    """A module definition; with `forward`, each export is one of that module."""
    lines = [f"LIBRARY {library.name}", "EXPORTS"]
    lines += [f"{name}{f'={forward}.{name}' if forward else ''}{' DATA' if data else ''}" for name, data in names]
    path.write_text("\n".join(lines) + "\n")


def make_libraries(home: Path, tools: Toolchain) -> None:
    """Import libraries, and the python3.dll that abi3 extensions want: all it exports forwards to python3XX.dll."""
    own = next(home.glob("python3*.dll"))
    libs = home / "libs"
    libs.mkdir()
    names = exports(own.read_bytes())
    define(own, names, libs / f"{own.stem}.def")
    tools.import_library(libs / f"{own.stem}.def", libs / f"lib{own.stem}.a")
    stable = home / "python3.dll"
    define(stable, names, libs / "python3.def")
    tools.import_library(libs / "python3.def", libs / "libpython3.a")
    define(stable, names, libs / "forward.def", forward=own.stem)
    tools.link(stable, "-shared", "-nostdlib", "-Wl,--entry=entry", HERE / "shim/forward.c", libs / "forward.def")
    tools.link(home / "python.exe", "-municode", HERE / "shim/python.c", libs / f"lib{own.stem}.a")


def make_home(cache: Path, home: Path, version: str, tools: Toolchain) -> None:
    lib, include = host_python(version)
    (wheel,) = [path for path in download(cache, version, "--no-deps", PANDA3D) if path.name.startswith("panda3d")]
    unpack(wheel, home / "DLLs", "deploy_libs/")
    for name in (f"python{version.replace('.', '')}.dll", "VCRUNTIME140.dll", "VCRUNTIME140_1.dll"):
        with contextlib.suppress(FileNotFoundError):
            (home / "DLLs" / name).rename(home / name)
    for path in (home / "DLLs").glob("api-ms-win-*"):
        path.unlink()  # Wine has them
    skipped = shutil.ignore_patterns("lib-dynload", "site-packages", "__pycache__", "config-*", "idlelib", "turtledemo")
    shutil.copytree(lib, home / "Lib", ignore=skipped)
    shutil.copytree(include, home / "include", ignore=shutil.ignore_patterns("pyconfig.h"))
    shutil.copy(HERE / "shim/pyconfig.h", home / "include")
    make_libraries(home, tools)
    extra = TEST_WHEELS_310 if version == "3.10" else []
    for wheel in download(cache, version, *TEST_WHEELS, *extra):
        unpack(wheel, home / "Lib/site-packages")


# ---- this checkout's package ----


def source_list() -> tuple[list[str], list[str]]:
    """C files and macros, as setup.py has them for Windows."""
    sys.path[:0] = [str(CHECKOUT)]
    try:
        import setup  # it does nothing unless it is run
    except ImportError as error:
        raise Unavailable(f"setup.py cannot be imported: {error}") from None
    finally:
        sys.path.remove(str(CHECKOUT))
    return setup.sources("win"), [f"-DPy_LIMITED_API=0x{setup.LIMITED_API:08x}"]


def install(home: Path, tools: Toolchain) -> None:
    """Compiles what changed since the last time, and copies the Python files."""
    target = home / "Lib/site-packages/pyjob"
    target.mkdir(parents=True, exist_ok=True)
    for path in [*CHECKOUT.glob("pyjob/*.py"), *CHECKOUT.glob("pyjob/*.pyi"), CHECKOUT / "pyjob/py.typed"]:
        copy = target / path.name
        if path.exists() and (not copy.exists() or copy.read_bytes() != path.read_bytes()):
            shutil.copy(path, copy)
    for copy in target.glob("*.py"):
        if not (CHECKOUT / "pyjob" / copy.name).exists():
            copy.unlink()
    sources, macros = source_list()
    texts = [path.read_text() for path in sorted((CHECKOUT / "csrc").rglob("*.[ch]"))]
    state = digest(tools.cc, sources, macros, *texts)
    stamp = target / "_native.state"
    if not stamp.exists() or stamp.read_text() != state:
        folders = [f"-I{folder}" for folder in (home / "include", CHECKOUT / "csrc", CHECKOUT / "csrc/py")]
        inputs = [*(CHECKOUT / file for file in sources), home / "libs/libpython3.a", "-lntdll", "-ladvapi32"]
        tools.link(target / "_native.pyd", "-shared", *STRICT, *macros, *folders, *inputs)
        stamp.write_text(state)


# ---- Wine ----

SERVER_LOST = 75  # EX_TEMPFAIL


class Bed:
    """One laid-out CPython and its Wine prefix."""

    def __init__(self, cache: Path, version: str) -> None:
        self.wine = shutil.which("wine") or shutil.which("wine64")
        self.server = shutil.which("wineserver") or "/usr/lib/wine/wineserver"
        if not self.wine or not Path(self.server).exists():
            raise Unavailable("Wine is not installed (apt-get install --no-install-recommends wine wine64)")
        self.tools = Toolchain()
        self.cache = cache
        self.version = version
        self.folder = cache / digest(CHECKOUT, version, PANDA3D, *[path.read_bytes() for path in HERE.glob("shim/*")])
        self.home = self.folder / "python"
        self.environment = dict(
            os.environ,
            WINEPREFIX=str(self.folder / "prefix"),
            WINEDEBUG="-all",
            PYTHONPYCACHEPREFIX=windows(self.folder / "pyc"),
            PYTHONIOENCODING="utf-8",
        )
        for name in ("PYTHONPATH", "PYTHONHOME", "DISPLAY", "TMPDIR"):
            self.environment.pop(name, None)

    def assemble(self) -> None:
        with locked(self.folder / "assemble.lock"):
            if not self.home.exists():
                fresh = self.folder / "python.new"
                shutil.rmtree(fresh, ignore_errors=True)
                make_home(self.cache, fresh, self.version, self.tools)
                fresh.rename(self.home)
            install(self.home, self.tools)
            if not (self.folder / "prefix/system.reg").exists():
                self.make_prefix()

    def make_prefix(self) -> None:
        """Before the first program: Wine's services inherit whatever the first one has for stdout, and keep it open."""
        shutil.rmtree(self.folder / "prefix", ignore_errors=True)
        command = [str(self.wine), "wineboot", "-i"]
        subprocess.run(command, env=self.environment, timeout=300, check=True, **SILENT)
        self.stop_server()  # writes the registry

    def stop_server(self) -> None:
        """Ends what runs in this prefix, and what a wineserver that was lost has left there."""
        for option in ("-k", "-w"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run([self.server, option], env=self.environment, timeout=30, stderr=subprocess.DEVNULL)
        mark = f"WINEPREFIX={self.environment['WINEPREFIX']}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                pin = os.pidfd_open(int(process.name))
                try:
                    if mark in (process / "environ").read_bytes().split(b"\0"):
                        signal.pidfd_send_signal(pin, signal.SIGKILL)
                finally:
                    os.close(pin)

    @contextlib.contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """A wineserver in the foreground, so that its death is seen: who waits for a dead one waits for ever."""
        command = [self.server, "--foreground", "--persistent"]
        server = subprocess.Popen(command, env=self.environment, **{**SILENT, "stderr": None})  # its last words
        try:
            # For the same reason as make_prefix().
            run = [str(self.wine), "cmd", "/c", "exit"]
            subprocess.run(run, env=self.environment, timeout=120, **SILENT)
            yield server
        finally:
            if server.poll() is None:
                self.stop_server()
                server.kill()
            server.wait()

    def python(self, arguments: list[str], limit: float) -> int:
        """Exit code of python.exe. One run at a time in a prefix; its server ends with it."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        command = [str(self.wine), str(self.home / "python.exe"), *arguments]
        with locked(self.folder / "running.lock"):
            for last in (False, True):
                with self.serving() as server:
                    code = stream(command, self.environment, work, limit, server)
                if code != SERVER_LOST:
                    return code
                self.stop_server()
                print(
                    f"bed: wineserver died (exit {server.returncode}){'' if last else '; everything once more'}",
                    flush=True,
                )
        return code


def windows(path: Path) -> str:
    return "Z:" + str(path).replace("/", "\\")


def copy_output(pipe: IO[bytes]) -> None:
    while chunk := os.read(pipe.fileno(), 65536):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def stream(
    command: list[str], environment: dict[str, str], cwd: Path, limit: float, server: subprocess.Popen[bytes]
) -> int:
    """stdin must be valid and stdout a pipe, else Python's streams cannot be made. The end is the exit, not EOF."""
    process = subprocess.Popen(
        command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    reader = threading.Thread(target=copy_output, args=(process.stdout,), daemon=True)
    reader.start()
    end = time.monotonic() + limit
    try:
        while time.monotonic() < end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(1)
            if server.poll() is not None:
                return SERVER_LOST
        print(f"bed: not finished after {limit:.0f} s", file=sys.stderr)
        return 124
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join(2)


FILES_AT_ONCE = 12  # in one python.exe: what a lost wineserver makes us do again
NO_TESTS = 5  # pytest's exit code


def pytest_runs(arguments: list[str]) -> Iterator[list[str]]:
    """The arguments of each run. Paths as Windows sees them: what exists here, from where we are or from tests/."""
    options, files = ["-m", "pytest", "-p", "no:cacheprovider"], []
    for argument in arguments:
        file, colons, test = argument.partition("::")
        path = next((base / file for base in (Path.cwd(), CHECKOUT / "tests") if (base / file).exists()), None)
        if argument.startswith("-") or path is None:
            options.append(argument)
        elif path.is_dir():
            files += [windows(one.resolve()) for one in sorted(path.rglob("test_*.py"))]
        else:
            files.append(windows(path.resolve()) + colons + test)
    files = files or [windows(CHECKOUT / "tests")]
    for first in range(0, len(files), FILES_AT_ONCE):
        yield [*options, *files[first : first + FILES_AT_ONCE]]


def run_pytest(bed: Bed, arguments: list[str], limit: float) -> int:
    codes = [bed.python(run, limit) & 0xFF for run in pytest_runs(arguments)]
    told = [code for code in codes if code != NO_TESTS]
    return max(told) if told else NO_TESTS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--required", action="store_true", help="fail, not skip, when this machine lacks something")
    parser.add_argument("--python", default="3.11", metavar="X.Y", help="version of CPython (default: 3.11)")
    parser.add_argument("--cache", type=Path, help="where downloads and layouts are kept (default: the user's cache)")
    parser.add_argument("--limit", type=float, default=900, metavar="SECONDS", help="for one python.exe (default: 900)")
    parser.add_argument("what", choices=["pytest", "exec", "build"])
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what it started ends with it
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyjob-bed"
    try:
        bed = Bed((given.cache or default).resolve(), given.python)
        bed.assemble()
    except Unavailable as reason:
        print(f"{'FAILED' if given.required else 'SKIPPED'} tests/windows: {reason}")
        return 1 if given.required else 0
    if given.what == "build":
        print(bed.home)
        return 0
    if given.what == "pytest":
        return run_pytest(bed, given.arguments, given.limit)
    return bed.python(given.arguments, given.limit) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
