"""Uses pyjob from end to end, over and over: `scenario.py` reads one line of JSON for each time, and forks for it.

Asked for {"backend", "part", "afterwards", "ready", "go", "report"}: the last are files by which child and test talk.
The child leads a session, in which all that it starts stays.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyjob

SLEEP = ["sleep", "600"]
OURS = str(Path(pyjob.__file__).parent)


def told(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "type": type(error).__name__,
        "os": isinstance(error, OSError),
        "text": str(error),
        "call": getattr(error, "call", None)
        or (f"child: {error.filename}" if getattr(error, "filename", None) else None),
        "ours": bool(frames) and frames[-1].filename.startswith(OURS),
        "where": [f"{Path(one.filename).name}:{one.lineno}" for one in frames],
        "survivors": getattr(error, "pids", None),
    }


class Run:
    def __init__(self, backend: str, part: str) -> None:
        self.backend = backend
        # before any call is counted
        tree = {"single": ["sh", "-c", "sleep 600 & wait"], "moves": SLEEP}.get(part, ["true"])
        self.child = subprocess.Popen(tree)
        self.errors: list[dict[str, Any]] = []
        if part == "start":
            self.popen().communicate()  # makes what is made once, and stays

    def try_(self, step: str, call: Callable[[], Any]) -> Any:
        """Each step, whatever became of the one before."""
        try:
            return call()
        except Exception as error:
            self.errors.append({"step": step, **told(error)})
            return None

    def whole(self) -> None:
        """Making, starting, looking, signalling, ending, closing."""
        try_ = self.try_
        job = try_("Job", lambda: pyjob.Job(backend=self.backend))
        if job is None:
            return
        first = try_("popen", lambda: job.popen(["sh", "-c", "sleep 600 & sleep 600"]))
        second = try_("popen 2", lambda: job.popen(SLEEP, cwd="/", start_new_session=False, stdout=subprocess.DEVNULL))
        try_("pids", job.pids)
        try_("members", lambda: [one.is_alive() for one in job.members()])
        try_("contains", lambda: os.getpid() in job)
        try_("send_signal", lambda: job.send_signal(signal.SIGCONT))
        try_("wait", lambda: ended(job.wait))
        if first is not None:
            try_("Popen.kill", first.kill)
            try_("Popen.wait", lambda: first.wait(5))
        try_("kill", lambda: job.kill(5))
        if second is not None:
            try_("Popen.wait 2", lambda: second.wait(5))
        try_("close", job.close)

    def single(self) -> None:
        """Single processes and trees, which need no job."""
        child = self.child
        handle = self.try_("ProcessHandle", lambda: pyjob.ProcessHandle(child))
        self.try_("children", lambda: pyjob.children(recursive=True))
        if handle is not None:
            self.try_("is_alive", handle.is_alive)
            self.try_("send_signal", lambda: handle.send_signal(signal.SIGCONT))
            self.try_("ProcessHandle.wait", lambda: ended(handle.wait))
        if self.try_("kill_tree", lambda: pyjob.kill_tree(child)) is None:
            self.try_("kill_tree again", lambda: pyjob.kill_tree(child))
        if handle is not None:
            self.try_("ProcessHandle.close", handle.close)
        self.try_("backends", pyjob.backends)

    def moves(self) -> None:
        """Moving others and oneself."""
        job = self.try_("Job", lambda: pyjob.Job(backend=self.backend))
        if job is None:
            return
        self.try_("assign", lambda: job.assign(self.child))
        self.try_("assign_self", job.assign_self)
        self.try_("popen", lambda: job.popen(SLEEP))
        self.try_("kill", lambda: job.kill(5))
        self.try_("close", job.close)

    def named(self) -> None:
        """Names."""
        name = f"fault-{os.getpid()}"
        job = self.try_("Job", lambda: pyjob.Job(name, backend=self.backend))
        other = self.try_("open", lambda: pyjob.Job.open(name))
        if other is not None:
            self.try_("pids", other.pids)
            self.try_("close other", other.close)
        if job is not None:
            self.try_("close", job.close)

    def start(self) -> None:
        """One start, which fails or not."""
        process = self.try_("Popen", self.popen)
        if process is not None:
            self.try_("communicate", lambda: process.communicate(timeout=5))
            self.try_("wait", lambda: process.wait(5))

    def popen(self) -> pyjob.Popen[bytes]:
        return pyjob.Popen(["true"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, backend=self.backend)

    def end(self) -> None:
        """Ends what was not started by the job, and is nobody else's to end."""
        if self.child.poll() is None:
            pyjob.kill_tree(self.child)
            self.child.wait()

    def started(self) -> None:
        """Left for the guard to end."""
        job = pyjob.Job(backend=self.backend)
        job.popen(["sh", "-c", "sleep 600 & setsid -w sleep 600"])
        kept.append(job)


kept: list[Any] = []


def ended(wait: Callable[[float], object]) -> bool:
    try:
        wait(0.01)
    except subprocess.TimeoutExpired:
        return False
    return True


def healthy(backend: str) -> None:
    """What failed once does not fail for ever."""
    done = pyjob.run(["echo", "well"], backend=backend, stdout=subprocess.PIPE)
    assert done.stdout == b"well\n" and done.returncode == 0, done


def held() -> Counter[str]:
    """What a start could leave behind: descriptors, children (guards that wait() overlooks, and zombies, too), jobs."""
    fds: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing
            link = os.readlink(f"/proc/self/fd/{fd}")
            fds["a descriptor: " + re.sub(r"/job-\d+", "/job-N", link)] += 1  # one empty leaf is kept open, any one
    tasks = Path("/proc/self/task").iterdir()
    children = Counter("a child" for task in tasks for _ in (task / "children").read_text().split())
    return fds + children + Counter({"an open job": len(pyjob.job._open)})


def patiently(look: Callable[[], Any]) -> Any:
    """The fault may come as late as here, once."""
    try:
        return look()
    except OSError:
        return look()


def await_file(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.002)


def put(path: str, text: str) -> None:
    """All at once."""
    Path(path + ".new").write_text(text)
    os.replace(path + ".new", path)


def child(request: dict[str, Any]) -> None:
    os.setsid()
    stranger = subprocess.Popen(SLEEP)
    run = Run(request["backend"], request["part"])
    if request["part"] == "started":
        run.started()
    before = held()
    put(request["ready"], str(stranger.pid))
    await_file(request["go"])
    report: dict[str, Any] = {}
    try:
        if request["part"] != "started":
            getattr(run, request["part"])()
            os.access("/pyjob-marker", os.F_OK)  # here the counted part ends
            if request["part"] == "start":
                report["left"] = sorted((patiently(held) - before).elements())
            run.end()
            if request["afterwards"]:
                run.try_("afterwards", lambda: healthy(run.backend))
        report["stranger"] = stranger.poll()
    except BaseException as error:
        report["failure"] = told(error)
    report["errors"] = run.errors
    try:
        put(request["report"], json.dumps(report))
    except OSError:  # the fault came late
        put(request["report"], json.dumps(report))
    if request["part"] == "started":
        signal.pause()
    atexit._run_exitfuncs()
    for _ in range(2):  # as in patiently(); Popen keeps a ProcessLookupError to itself
        with contextlib.suppress(OSError):
            stranger.kill()
    stranger.wait()


def main() -> None:
    for backend in sys.argv[1:]:  # imports what is imported late, and what the C library does but once
        for part in ("whole", "single"):
            run = Run(backend, part)
            getattr(run, part)()
            run.end()
        healthy(backend)
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                child(json.loads(line))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(99)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
