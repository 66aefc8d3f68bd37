"""`pyjob demo`: a program ends all of its own descendants and nothing else, and checks that this is what happened.

It encloses itself in a job. Then a "library", which knows nothing of jobs, starts three children with `subprocess`: one
that just works, one with a child of its own, and one that daemonizes. A bystander that runs the very same program was
started before and is no member. On a backend that cannot take the caller in, the library runs as a program in the job.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time

from .job import Job
from .process import ProcessHandle, children

PATIENCE = 20.0  # seconds until a child must have shown up

# Not a virtual environment's launcher: on Windows that is a process of its own.
PYTHON: str = getattr(sys, "_base_executable", sys.executable)

# What every process of the demo runs: the roles are told apart by their arguments alone, so all have the same name.
PROGRAM = r"""
import os, subprocess, sys, time
code, folder, role = sys.argv[1:4]

def start(role, **how):
    quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return subprocess.Popen([sys.executable, "-c", code, code, folder, role], **quiet, **how)

def show_up():
    with open(os.path.join(folder, role + ".new"), "w") as file:
        file.write(str(os.getpid()))
    os.replace(os.path.join(folder, role + ".new"), os.path.join(folder, role))

if role == "library":
    started = [start("worker"), start("manager"), start("launcher")]
    started[2].wait()
elif role == "manager":
    start("helper")
elif role == "launcher":
    if os.name == "nt":
        start("daemon", creationflags=subprocess.DETACHED_PROCESS)
    else:
        start("daemon", start_new_session=True, cwd="/")
    sys.exit()
show_up()
time.sleep(600)
"""

MEMBERS = {
    "worker": "a worker",
    "manager": "a worker with a child of its own",
    "helper": "the child of that worker",
    "daemon": "a daemon: its parent is gone, and it has left the session",
}


class Demo:
    """One run: who was started, and what was found to hold."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []
        self.people: dict[str, ProcessHandle] = {}
        self.failures: int = 0

    def start(self, role: str) -> subprocess.Popen[bytes]:
        """What a library does that has never heard of jobs."""
        quiet = subprocess.DEVNULL
        program = subprocess.Popen(self.command(role), stdin=quiet, stdout=quiet, stderr=quiet)
        self.started.append(program)
        return program

    def command(self, role: str) -> list[str]:
        return [PYTHON, "-c", PROGRAM, PROGRAM, self.folder, role]

    def meet(self, role: str) -> None:
        """Waits for a process to show up, and pins it."""
        deadline = time.monotonic() + PATIENCE
        while role not in self.people:
            try:
                with open(os.path.join(self.folder, role)) as file:
                    self.people[role] = ProcessHandle(int(file.read()))
            except (FileNotFoundError, PermissionError):  # Windows refuses while the rename is still under way
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the {role} has not shown up within {PATIENCE:.0f} seconds") from None
                time.sleep(0.01)

    def verify(self, what: str, holds: bool) -> None:
        self.failures += not holds
        print(f"  {'ok    ' if holds else 'FAILED'}  {what}")

    def tidy_up(self) -> None:
        """Ends whoever is left: the bystander always, the others when something failed."""
        for handle in self.people.values():
            handle.kill()
        for program in self.started:
            program.kill()
            program.wait()

    def picture(self, root: int) -> None:
        """The tree by parentage, as any task manager shows it, and whoever has dropped out of it."""
        names = {handle.pid: role for role, handle in self.people.items()}
        seen: set[int] = set()

        def branch(pid: int, indent: str) -> None:
            seen.add(pid)
            below = [child for child in children(pid) if child in names or pid == root]
            for at, child in enumerate(below, 1):
                last = at == len(below)
                role = names.get(child, "")
                print(f"  {indent}{'`-- ' if last else '|-- '}{child}  {role or '(another child)'}")
                branch(child, indent + ("    " if last else "|   "))

        print(f"\n  {root}  this program")
        branch(root, "")
        for pid, role in names.items():
            if pid not in seen:
                print(f"  {pid}  {role}, in nobody's tree any more")
        print()


def main(backend: str | None = None) -> int:
    """Runs the demo; 0 when all of it held, 1 otherwise."""
    with tempfile.TemporaryDirectory(prefix="pyjob-demo-") as folder:
        run = Demo(folder)
        try:
            with Job(backend=backend) as job:
                perform(run, job)
        finally:
            run.tidy_up()
    print("\nAll of it held." if not run.failures else f"\n{run.failures} of it did not hold.")
    return 1 if run.failures else 0


def perform(run: Demo, job: Job) -> None:
    run.start("bystander")
    run.meet("bystander")
    inside = job.backend != "process-group"
    print(f"A job on the backend {job.backend}.")
    if inside:
        job.assign_self()
        run.start("worker")
        run.start("manager")
        run.start("launcher").wait()
    else:
        print("This backend cannot enclose the caller: the library runs as a program of its own in the job.")
        # A session of its own, or this backend would hand it the terminal on which Enter is awaited.
        job.popen(run.command("library"), stdin=subprocess.DEVNULL, start_new_session=True)
        run.meet("library")
    for role in MEMBERS:
        run.meet(role)
    run.picture(os.getpid())
    before(run, job, inside)
    if sys.stdin is not None and sys.stdin.isatty():
        with contextlib.suppress(EOFError):  # Windows calls its null device a terminal
            input("\nPress Enter to end them all but this program. ")
    started = time.perf_counter()
    job.kill()
    print(f"\nkill() took {(time.perf_counter() - started) * 1000:.1f} ms.\n")
    after(run, job, inside)


def before(run: Demo, job: Job, inside: bool) -> None:
    escapes = not job.guarantees.escape_proof
    for role, handle in run.people.items():
        who = f"{handle.pid}, {MEMBERS.get(role, 'the ' + role)},"
        if role == "bystander":
            run.verify(f"{who} which runs the same program, is no member", handle not in job)
        elif role == "daemon" and escapes:
            run.verify(f"{who} has escaped, as this backend's guarantees admit", handle not in job)
        else:
            run.verify(f"{who} is a member", handle in job)
    expected = {handle.pid for role, handle in run.people.items() if role != "bystander"}
    if inside:
        expected.add(os.getpid())
    if escapes:
        expected.discard(run.people["daemon"].pid)
    run.verify(f"the job lists these {len(expected)} and nobody else", set(job.pids()) == expected)


def after(run: Demo, job: Job, inside: bool) -> None:
    spared = {"bystander"} if job.guarantees.escape_proof else {"bystander", "daemon"}
    for role, handle in run.people.items():
        if role == "bystander":
            run.verify(f"{handle.pid}, the bystander, lives", handle.is_alive())
        elif role in spared:
            run.verify(f"{handle.pid}, the daemon that had escaped, lives on", handle.is_alive())
        else:
            run.verify(f"{handle.pid}, the {role}, has ended", not handle.is_alive())
    left = [os.getpid()] if inside else []
    run.verify("this program lives, and is alone in the job" if inside else "the job is empty", job.pids() == left)
