"""An owner in a process of its own, that does something with pyjob and then ends in a chosen way.

Test side:
    with Owner(tmp_path, body, end="SIGKILL", backend="cgroup") as owner:
        owner.ready()      # the body has run; its `report(key=value)` are in owner.reported
        owner.end()        # now it ends
        owner.wait()       # it is gone: the return code as subprocess gives it
`body` is Python source with these names: pyjob, os, sys, time, subprocess, threading, signal, report(**values),
argument (the
mapping given as `argument=`), backend. What it binds stays alive until the owner's end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]
from helpers.procs import DEADLINE, Identity, eventually  # noqa: E402
from helpers.tree import settled  # noqa: E402

ENDS_ANYWHERE = ("return", "exception", "sys.exit", "os._exit", "TerminateProcess")
ENDS_POSIX = ("return", "exception", "sys.exit", "os._exit", "SIGTERM", "SIGKILL", "SIGSTOP+SIGKILL", "SIGSEGV")
ENDS = ENDS_ANYWHERE if sys.platform == "win32" else ENDS_POSIX

# Owners started by this test process: their cgroup roots belong to the look for leftovers.
started: list[int] = []


class Owner:
    def __init__(
        self,
        folder: Path,
        body: str,
        end: str = "SIGKILL",
        backend: str | None = None,
        in_thread: bool = False,
        argument: object = None,
        env: dict[str, str] | None = None,
        prefix: list[str] | None = None,
    ) -> None:
        self.folder = folder / f"owner-{time.monotonic_ns()}"
        self.folder.mkdir(parents=True)
        self.how = end if sys.platform != "win32" or not end.startswith("SIG") else "TerminateProcess"
        (self.folder / "body.py").write_text(textwrap.dedent(body), encoding="utf-8")
        plan = {"end": self.how, "backend": backend, "in_thread": in_thread, "argument": argument}
        (self.folder / "plan.json").write_text(json.dumps(plan))
        argv = [
            *(prefix or []),
            sys.executable,
            "-X",
            "faulthandler=0",
            str(Path(__file__).resolve()),
            str(self.folder),
        ]
        # Output goes to a file: a pipe could be held open by those who outlive the owner.
        with open(self.folder / "output", "wb") as output:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env
            )
        started.append(self.process.pid)
        self.identity = Identity.of(self.process.pid)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    @property
    def reported(self) -> dict[str, Any]:
        try:
            return dict(json.loads(settled(self.folder / "report.json")))
        except FileNotFoundError:
            return {}

    def ready(self, deadline: float = DEADLINE) -> dict[str, Any]:
        """Waits until the body has run."""

        def done() -> bool:
            if (self.folder / "ready").exists():
                return True
            assert self.process.poll() is None, f"the owner left with {self.process.returncode}:\n{self.output}"
            return False

        eventually(done, deadline, lambda: f"the owner's body never ended:\n{self.output}")
        return self.reported

    def end(self) -> None:
        """Ends it, or lets it end; does not wait."""
        if self.how == "SIGSTOP+SIGKILL":
            os.kill(self.pid, signal.SIGSTOP)
            os.kill(self.pid, signal.SIGKILL)
        elif self.how == "TerminateProcess":
            self.process.kill()
        elif self.how.startswith("SIG"):
            os.kill(self.pid, getattr(signal, self.how))
        else:
            (self.folder / "go").touch()

    def wait(self, deadline: float = DEADLINE) -> int:
        return self.process.wait(deadline)

    def __enter__(self) -> Owner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)
        if value is not None and self.output:
            print(f"--- output of the owner ({self.how}):\n{self.output}", file=sys.stderr)


# ---- the program


def main(folder: Path) -> None:
    import pyjob

    plan = json.loads((folder / "plan.json").read_text())
    values: dict[str, Any] = {}

    def report(**more: Any) -> None:
        values.update(more)
        fresh = folder / "report.json.new"
        fresh.write_text(json.dumps(values))
        os.replace(fresh, folder / "report.json")

    scope = {
        "pyjob": pyjob, "os": os, "sys": sys, "time": time, "subprocess": subprocess, "threading": threading,
        "signal": signal, "report": report, "argument": plan["argument"], "backend": plan["backend"], "folder": folder,
        "__name__": "owner_body",
    }  # fmt: skip
    code = compile((folder / "body.py").read_text(encoding="utf-8"), str(folder / "body.py"), "exec")
    failure: list[BaseException] = []

    def body() -> None:
        try:
            exec(code, scope)
        except BaseException as exception:
            failure.append(exception)

    if plan["in_thread"]:
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
    else:
        body()
    if failure:
        raise failure[0]
    (folder / "ready").touch()
    fuse = time.monotonic() + 300
    while not (folder / "go").exists() and time.monotonic() < fuse:
        time.sleep(0.01)
    if plan["end"] == "exception":
        raise RuntimeError("the owner's own failure")
    if plan["end"] == "sys.exit":
        sys.exit(3)
    if plan["end"] == "os._exit":
        os._exit(4)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
