"""A tree of real processes, as program and as the handle that tests hold.

Program: `python tree.py FOLDER NODE`, NODE in JSON:
    name        each node writes FOLDER/name.json ({"pid", "started"}) once it holds the lock on FOLDER/name.lock
    children    list of nodes, started one after the other; each reports before the next is started
    how         "exec" (default) a fresh program; "fork" os.fork() without exec; "setsid" a fresh program in a new
    session;
                "daemon" double fork, new session, every descriptor closed, empty environment (Windows:
                DETACHED_PROCESS,
                new group, no inherited handles, the least environment)
    exit        leaves with this code as soon as all children have reported
    ignore      true: ignores SIGINT, SIGTERM, SIGHUP (Windows: Ctrl-C and Ctrl-Break)
    mark        true: on SIGTERM writes FOLDER/name.term and leaves with 0
    life        seconds after which the node leaves by itself, so that a broken test floods no machine (default 300)
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]
from helpers import locks  # noqa: E402
from helpers.procs import DEADLINE, Identity, eventually  # noqa: E402

Node = dict[str, Any]
LIFE = 300


def node(name: str, *children: Node, **options: Any) -> Node:
    return {"name": name, "children": list(children), **options}


def names(tree: Node) -> list[str]:
    return [tree["name"], *(n for child in tree.get("children", ()) for n in names(child))]


def chain(*names_: str, **options: Any) -> Node:
    """One below the other; the options belong to the last."""
    first, *rest = names_
    return node(first, chain(*rest, **options)) if rest else node(first, **options)


def settled(path: Path) -> str:
    """What is in a file that was just put into its place: Windows refuses to open it while the rename is under way."""
    end = time.monotonic() + 5
    while True:
        try:
            return path.read_text()
        except PermissionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


class Tree:
    """The tests' side: the command that starts the tree, and what became of it."""

    def __init__(self, folder: Path, root: Node) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.root = root
        self.names = names(root)
        self.identities: dict[str, Identity] = {}

    @property
    def argv(self) -> list[str]:
        return [sys.executable, "-S", str(Path(__file__).resolve()), str(self.folder), json.dumps(self.root)]

    def ready(self, deadline: float = DEADLINE) -> dict[str, Identity]:
        """Waits until every node has reported; returns their identities. Nodes with `exit` may be gone by then."""
        for name in self.names:
            eventually((self.folder / f"{name}.json").exists, deadline, f"{name} of the tree never reported")
        for name in self.names:
            report = self.report(name)
            self.identities[name] = Identity(report["pid"], report["started"])
        return self.identities

    @property
    def complete(self) -> bool:
        """Whether every node has reported so far."""
        return all((self.folder / f"{name}.json").exists() for name in self.names)

    def report(self, name: str) -> dict[str, int]:
        return dict(json.loads(settled(self.folder / f"{name}.json")))

    def pid(self, name: str) -> int:
        return int(self.report(name)["pid"])

    @property
    def staying(self) -> list[str]:
        """The names of those that do not leave by themselves."""
        found = []
        todo = [self.root]
        while todo:
            one = todo.pop()
            if "exit" not in one:
                found.append(one["name"])
            todo += one.get("children", ())
        return found

    def pids(self, chosen: Iterable[str] | None = None) -> list[int]:
        return sorted(self.pid(name) for name in (self.staying if chosen is None else chosen))

    def is_dead(self, name: str) -> bool:
        return locks.free(self.folder / f"{name}.lock") and not self.identities[name].alive()

    def assert_dead(self, chosen: Iterable[str] | None = None, deadline: float = DEADLINE) -> None:
        """Each lock can be taken: nobody holds it any more, under whatever PID."""
        for name in self.names if chosen is None else chosen:
            eventually(lambda n=name: self.is_dead(n), deadline, f"{name} ({self.identities[name]}) lives on")  # type: ignore[misc]

    def assert_alive(self, chosen: Iterable[str] | None = None) -> None:
        for name in self.staying if chosen is None else chosen:
            assert self.identities[name].alive(), f"{name} ({self.identities[name]}) is dead"
            assert not locks.free(self.folder / f"{name}.lock"), f"{name} has lost its lock"

    def was_asked(self, name: str) -> bool:
        """Whether a node with `mark` got SIGTERM."""
        return (self.folder / f"{name}.term").exists()

    def end(self) -> None:
        """For the teardown of a test: ends what is left, by identity."""
        for name in self.names:
            try:
                report = self.report(name)
            except (FileNotFoundError, ValueError):
                continue
            Identity(report["pid"], report["started"]).end()


# ---- the program


def start(folder: str, child: Mapping[str, Any]) -> None:
    how = child.get("how", "exec")
    argv = [sys.executable, "-S", os.path.abspath(__file__), folder, json.dumps(child)]
    if how == "fork":
        if os.fork() == 0:
            code = 70
            while _locks:
                os.close(_locks.pop())  # flock() belongs to the open file: a copy would outlive its owner
            try:
                code = live(folder, child)
            finally:
                os._exit(code)
    elif how == "daemon" and os.name == "nt":
        flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP  # type: ignore[attr-defined]
        least = {
            k: v
            for k, v in os.environ.items()
            if k.upper() in ("SYSTEMROOT", "PATH", "PYTHONHOME", "TEMP", "WINEPREFIX")
        }
        _children.append(subprocess.Popen(argv, creationflags=flags, env=least, close_fds=True))
    elif how == "daemon":
        middle = os.fork()
        if middle == 0:
            os.setsid()
            if os.fork() == 0:
                os.closerange(0, 1024)
                for want in range(3):
                    assert os.open(os.devnull, os.O_RDWR) == want
                os.chdir("/")
                os.execve(argv[0], argv, {})
            os._exit(0)
        os.waitpid(middle, 0)
    else:
        # Kept, so that nobody reaps or warns: what a library's children look like to the program that calls it.
        _children.append(subprocess.Popen(argv, start_new_session=how == "setsid"))


_children: list[subprocess.Popen[bytes]] = []
_locks: list[int] = []


def live(folder: str, me: Mapping[str, Any]) -> int:
    name = me["name"]
    fuse = time.monotonic() + me.get("life", LIFE)
    if me.get("ignore"):
        for what in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            if hasattr(signal, what):
                signal.signal(getattr(signal, what), signal.SIG_IGN)
    elif me.get("mark"):

        def leave(number: int, frame: object) -> None:
            Path(folder, f"{name}.term").write_text(str(number))
            os._exit(0)

        signal.signal(signal.SIGTERM, leave)
        if hasattr(signal, "SIGBREAK"):
            signal.signal(signal.SIGBREAK, leave)
    elif me.get("how") == "fork":
        for what in (signal.SIGINT, signal.SIGTERM):
            signal.signal(what, signal.SIG_DFL)
    lock = os.open(os.path.join(folder, f"{name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    os.set_inheritable(lock, False)
    if not locks.take(lock):
        return 71
    _locks.append(lock)
    for child in me.get("children", ()):
        start(folder, child)
        eventually(Path(folder, f"{child['name']}.json").exists)
    # Reports last: a tree whose root has reported is complete.
    report = {"pid": os.getpid(), "started": Identity.of(os.getpid()).started}
    fresh = os.path.join(folder, f"{name}.json.new")
    Path(fresh).write_text(json.dumps(report))
    os.replace(fresh, os.path.join(folder, f"{name}.json"))
    if "exit" in me:
        return int(me["exit"])
    while time.monotonic() < fuse:
        time.sleep(0.5)
    return 0


if __name__ == "__main__":
    os._exit(live(sys.argv[1], json.loads(sys.argv[2])))
