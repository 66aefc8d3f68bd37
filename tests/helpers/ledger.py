"""Whether a call that is made again and again keeps anything: memory, descriptors, processes, zombies, control groups.

Memory is counted, not estimated from the resident set: blocks of Python's own allocator, bytes of malloc(3).
"""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from helpers.leftovers import Baseline, _sweep, handles, roots_of

ROUNDS = 6  # each of twice the calls: noise (a dict that grows, a cache) is small in one of them; a leak is in each
SMALLEST = 32  # bytes that malloc(3) takes for one
SECONDS = 20.0  # for guards and reapers to finish


class _Mallinfo2(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ["arena", "o", "s", "h", "hblkhd", "us", "fs", "uordblks", "fordblks", "keep"]
    )


class _HeapEntry(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_uint32),
        ("overhead", ctypes.c_uint8),
        ("region", ctypes.c_uint8),
        ("flags", ctypes.c_uint16),
        ("more", ctypes.c_uint64 * 3),
    )


def heap_bytes() -> int:
    """In use, in all heaps of this process (HeapWalk): there is one for each C library that was linked."""
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
    kernel.HeapWalk.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    heaps = (ctypes.c_void_p * 64)()
    taken = 0
    for heap in heaps[: kernel.GetProcessHeaps(64, heaps)]:
        entry = _HeapEntry()
        walk, place = kernel.HeapWalk, ctypes.byref(entry)
        while walk(heap, place):
            if entry.flags & 4:  # PROCESS_HEAP_ENTRY_BUSY
                taken += entry.bytes
    return taken


def malloc_bytes() -> int:
    """In use (mallinfo2(3), glibc 2.33; HeapWalk on Windows); 0 where nobody counts."""
    if sys.platform == "win32":
        return heap_bytes()
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return 0
    ask.restype = _Mallinfo2
    found = ask()
    return int(found.uordblks + found.hblkhd)


@dataclass
class Kept:
    """What one round has kept."""

    blocks: int
    bytes: int
    calls: int

    def flat(self) -> bool:
        return self.blocks < self.calls // 2 and self.bytes < self.calls * SMALLEST // 2


def _count(call: Callable[[], object], calls: int) -> Kept:
    gc.collect()
    blocks, taken = sys.getallocatedblocks(), malloc_bytes()
    for _ in range(calls):
        call()
    gc.collect()
    return Kept(sys.getallocatedblocks() - blocks, malloc_bytes() - taken, calls)


def _descriptors() -> int:
    """On Windows handles, of processes and jobs too."""
    if sys.platform == "win32":
        return handles()
    return len(os.listdir("/proc/self/fd"))


def _programs() -> int:
    """Those below this process, where no baseline lists them: on Windows."""
    if sys.platform != "win32":
        return 0
    import psutil

    return len(psutil.Process().children(recursive=True))


def _groups() -> int:
    return sum(len(below) for root in roots_of(os.getpid()) for _, below, _ in os.walk(root))


def _counts() -> dict[str, int]:
    """Programs first: the first such look opens handles that stay."""
    return {"programs": _programs(), "descriptors": _descriptors(), "groups": _groups()}


def assert_keeps_nothing(
    call: Callable[[], object], calls: int, stock: Callable[[], object] | None = None, warm: int = 10
) -> None:
    """`warm` calls first: what is made with the first ones, and the pool of leaves, is no leak.

    `stock`: does the same without us, and what it keeps is not our doing.
    """
    for _ in range(warm):
        call()
    _sweep()
    base = Baseline.take()
    known = set(base.leftovers())  # what lives in the caller's jobs
    counts = _counts()
    rounds = []
    for number in range(ROUNDS):
        rounds.append(_count(call, calls << number))
        if stock is not None:
            theirs = _count(stock, calls << number)
            rounds[-1].blocks -= theirs.blocks
            rounds[-1].bytes -= theirs.bytes
        if rounds[-1].flat():
            break
    else:
        raise AssertionError(f"memory is kept: {rounds}")
    _assert_settles(base, known, counts)


def _assert_settles(base: Baseline, known: set[str], counts: dict[str, int]) -> None:
    """Guards and reapers may take a moment to finish."""
    end = time.monotonic() + SECONDS
    while True:
        found = [one for one in base.leftovers() if one not in known]
        more = {what: number - counts[what] for what, number in _counts().items()}
        found += [f"{number} {what} more than before" for what, number in more.items() if number > 0]
        if not found or time.monotonic() > end:
            assert not found, "kept:\n  " + "\n  ".join(found)
            return
        subprocess._cleanup()  # type: ignore[attr-defined]  # as the next Popen would
        _sweep()
        time.sleep(0.02)
