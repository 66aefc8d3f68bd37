"""The processes that are listed and killed: made by tree.c, in a job or not, and ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyjob

HERE = Path(__file__).resolve().parent
SECONDS = 60.0


class Programs:
    """tree and floor, compiled into `folder`."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if not compiler:
            raise SystemExit("the benchmarks need a C compiler (cc) for the processes that are killed")
        for name in ("tree", "floor"):
            warnings = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror"]
            source, program = HERE / f"{name}.c", folder / name
            command = [compiler, *warnings, "-o", str(program), str(source)]
            # Statically, members have a tenth of the memory and start in a third of the time; not all can link so.
            if subprocess.run([*command, "-static"], capture_output=True).returncode:
                subprocess.run(command, check=True)
        self.tree, self.floor = folder / "tree", folder / "floor"


class Tree:
    """One tree of `size` processes, the root included. Without a job it is a plain subprocess."""

    def __init__(self, programs: Programs, shape: str, size: int, job: pyjob.Job | None = None) -> None:
        start: Any = job.popen if job else subprocess.Popen
        self.size = size
        self.program = start([programs.tree, shape, str(size)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.pid: int = self.program.pid
        self.output = self.program.stdout.fileno()
        try:
            self._await()
        except BaseException:
            self.end()
            raise

    def _await(self) -> None:
        seen = 0
        while seen < self.size:
            some = os.read(self.output, self.size - seen)
            if not some or b"!" in some:
                raise OSError(f"a tree of {self.size} stopped at {seen}: see RLIMIT_NPROC, pids.max and pid_max")
            seen += len(some)

    def await_end(self) -> None:
        """Until the last member has closed its files, which is when it dies. Costs the killer nothing."""
        while os.read(self.output, 4096):
            pass

    def end(self) -> None:
        """Ends who is left, and returns when all are reaped, so that they are in nobody's way any more."""
        if self.program.poll() is None:
            self.program.terminate()
        try:
            self.program.wait(SECONDS)
        finally:
            self.program.stdout.close()
        end = time.monotonic() + SECONDS
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < end:
                os.killpg(self.pid, 0)  # succeeds for zombies
                time.sleep(0.001)
            raise TimeoutError(f"processes of group {self.pid} are still there and would be measured with the next")

    def cgroup(self) -> Path:
        """Of the job, which is one above the program's own, in the file system."""
        mount = next(
            line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line
        )
        own = next(
            line[3:] for line in Path(f"/proc/{self.pid}/cgroup").read_text().splitlines() if line.startswith("0::")
        )
        return Path(mount + own).parent


@contextlib.contextmanager
def tree(programs: Programs, shape: str, size: int, backend: str = "") -> Iterator[tuple[Tree, pyjob.Job | None]]:
    """With a backend: in a job of its own."""
    with pyjob.Job(backend=backend) if backend else contextlib.nullcontext() as job:
        one = Tree(programs, shape, size, job)
        try:
            yield one, job
        finally:
            one.end()


@contextlib.contextmanager
def strangers(programs: Programs, count: int) -> Iterator[None]:
    """Processes that have nothing to do with it all."""
    if not count:
        yield
        return
    with tree(programs, "wide", count):
        yield


@contextlib.contextmanager
def singles(programs: Programs, size: int, backend: str = "") -> Iterator[pyjob.Job | None]:
    """`size` processes, each started by a Popen of its own: in a job of that backend, or by subprocess."""
    command = [programs.tree, "wide", "1"]
    started: list[Any] = []
    with pyjob.Job(backend=backend) if backend else contextlib.nullcontext() as job:
        start: Any = job.popen if job else subprocess.Popen
        try:
            for _ in range(size):
                started.append(start(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
            yield job
        finally:
            if job:
                job.kill(timeout=SECONDS)
            for one in () if job else started:
                one.kill()
            for one in started:
                one.wait(SECONDS)
