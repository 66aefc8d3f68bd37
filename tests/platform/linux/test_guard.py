"""The executable pyjob-guard by itself: how small it is, that nothing stops it, and that no input hurts it."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyjob
from helpers.procs import DEADLINE, Identity, eventually
from pyjob._guard import PATH

MOST_KIB = 64
MAGIC = 0x706A0001
NO_DEADLY = {signal.SIGKILL, signal.SIGSTOP}


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def guarded() -> Iterator[tuple[Any, Identity]]:
    """A program of the reaper backend and its guard."""
    with pyjob.Popen(["sleep", "1000"], backend="reaper") as program:
        yield program, Identity.of(parent_of(program.pid))
        program.kill()


def test_its_resident_memory(guarded: tuple[Any, Identity]) -> None:
    _program, guard = guarded
    rollup = Path(f"/proc/{guard.pid}/smaps_rollup").read_text()
    resident = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Rss:"))
    assert resident <= MOST_KIB


def test_it_needs_no_loader() -> None:
    header = Path(PATH).read_bytes()
    offset, size, count = struct.unpack_from("<Q", header, 32)[0], *struct.unpack_from("<HH", header, 54)
    kinds = {struct.unpack_from("<I", header, offset + i * size)[0] for i in range(count)}
    assert not kinds & {2, 3}  # PT_DYNAMIC, PT_INTERP
    assert os.access(PATH, os.X_OK)


def test_it_holds_nothing_of_its_owner(guarded: tuple[Any, Identity]) -> None:
    _program, guard = guarded
    held = eventually(lambda: [os.readlink(one) for one in Path(f"/proc/{guard.pid}/fd").iterdir()])
    assert len(held) <= 3, held
    assert not [one for one in held if one.startswith(("/dev", "pipe:"))], held
    eventually(lambda: os.readlink(f"/proc/{guard.pid}/cwd") == "/")


def test_it_is_in_nobodys_group_or_session(guarded: tuple[Any, Identity]) -> None:
    program, guard = guarded
    eventually(lambda: os.getsid(guard.pid) == guard.pid, message="it is still in its owner's session")
    assert os.getpgid(program.pid) == os.getpgid(0)
    assert os.getsid(program.pid) == os.getsid(0)


def test_no_signal_stops_it(guarded: tuple[Any, Identity]) -> None:
    program, guard = guarded
    for number in range(1, signal.NSIG):
        if number not in NO_DEADLY:
            os.kill(guard.pid, number)
    time.sleep(0.1)
    assert guard.alive()
    assert Path(f"/proc/{guard.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    assert program.poll() is None
    program.terminate()
    assert program.wait(DEADLINE) == -signal.SIGTERM


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["reaper"],
        ["reaper", "0", "1"],
        ["reaper", "0", "1", "x"],
        ["reaper", "-1", "1", "0"],
        ["reaper", "0", "4294967296", "0"],
        ["reaper", "0", "1", "18446744073709551616"],
        ["reaper", "", "1", "0"],
        ["adopt", "0", "1", "99999999999", "0"],
        ["adopt", "0", "1", "1"],
        ["cgroup", "0", "1", "ready"],
        ["reaper", "0", "1", "2", "3", "4"],
        ["nonsense", "0", "1", "2"],
    ],
)
def test_arguments_that_are_none(arguments: list[str]) -> None:
    done = subprocess.run([PATH, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=DEADLINE)
    assert done.returncode == 64


def tell(messages: list[bytes]) -> int:
    """The exit status of a guard that is told this, and then nothing more."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    owner = os.pidfd_open(os.getpid())
    with ours, its:
        process = subprocess.Popen([PATH, "reaper", str(owner), str(its.fileno()), "0"], pass_fds=[owner, its.fileno()])
        its.close()
        for message in messages:
            try:
                ours.send(message)
            except (BrokenPipeError, ConnectionResetError):
                break  # it did not want to hear the rest
        ours.shutdown(socket.SHUT_WR)
        try:
            return process.wait(DEADLINE)
        finally:
            process.kill()
            process.wait()
            os.close(owner)


def wire(
    text: bytes, counts: tuple[int, int, int, int, int] = (1, 1, 0, 0, 0), flags: int = 0, size: int = -1
) -> bytes:
    """csrc/linux/protocol.h: a description of a program."""
    size = 72 + len(text) if size < 0 else size
    return struct.pack("<IIIIIIII6iiiII", MAGIC, size, flags, *counts, *[-1] * 6, -1, -1, 0, 0) + text


HOSTILE = {
    "nothing": [],
    "short": [b"x"],
    "noise": [bytes(range(256)) * 4],
    "head alone": [wire(b"", (0, 0, 0, 0, 0))],
    "no strings": [wire(b"", (1, 1, 0, 0, 0))],
    "no end of string": [wire(b"/bin/true")],
    "too few strings": [wire(b"/bin/true\0")],
    "too many strings": [wire(b"/bin/true\0true\0x\0")],
    "countless strings": [wire(b"/bin/true\0true\0", (0xFFFFFFFF,) * 5)],
    "countless numbers": [wire(b"/bin/true\0true\0", (1, 1, 0, 0xFFFFFFFF, 0xFFFFFFFF))],
    "smaller than its head": [wire(b"", size=10)],
    "larger than it is": [wire(b"/bin/true\0true\0", size=100_000)],
    "immense": [wire(b"/bin/true\0true\0", size=0xFFFFFFFF)],
    "directory that is missing": [wire(b"", flags=1 << 6)],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_description_that_is_none(case: str) -> None:
    assert tell(HOSTILE[case]) == 1


def test_random_descriptions() -> None:
    """None of them crashes it; what happens to be valid is a program that cannot be executed."""
    dice = random.Random(6)
    for _ in range(100):
        text = bytes(dice.choices(b"\0\0ab/", k=dice.randrange(60)))
        counts = [dice.choice([0, 1, 1, 2, 5, 0xFFFF]) for _ in range(5)]
        message = bytearray(wire(text, tuple(counts), flags=dice.randrange(1 << 7) & ~0x38))  # type: ignore[arg-type]
        if dice.random() < 0.3:
            message[dice.randrange(len(message))] = dice.randrange(256)
        assert tell([bytes(message)]) in (0, 1)


def test_noise_after_the_start_changes_nothing() -> None:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    owner = os.pidfd_open(os.getpid())
    process = subprocess.Popen([PATH, "reaper", str(owner), str(its.fileno()), "0"], pass_fds=[owner, its.fileno()])
    with ours:
        its.close()
        os.close(owner)
        ours.settimeout(DEADLINE)
        ours.send(wire(b"/bin/sleep\0sleep\x00000.2\0", (1, 2, 0, 0, 0)))
        kind, pid, code, _ = struct.unpack("<4i", ours.recv(64))
        assert (kind, code) == (1, 0)
        for noise in (b"x", b"x" * 15, b"\xff" * 16, b"\0" * 16, b"y" * 4000):
            ours.send(noise)
        assert struct.unpack("<4i", ours.recv(64)) == (3, 0, 1, 0)  # it ended, with 0, and nobody else is left
        assert Identity.of(pid)  # a zombie, until it is collected
        ours.send(struct.pack("<4i", 5, 0, 0, 0))
        assert process.wait(DEADLINE) == 0
