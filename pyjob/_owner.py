"""What this process owns: its open jobs, those that enclose it, those of dropped Popens; their end at fork and exit."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
import warnings
from _weakref import ref  # what `weakref` adds to it is not needed, and takes time to import

from . import _native, guarantees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .job import Job

_EXIT_SECONDS = 5.0
_DIES_WITH_OWNER = _native.GUARANTEES["dies_with_owner"]

# Per process: a forked child starts with none of these.
_open: dict[int, ref[Job]] = {}  # every open job that this process owns or has opened by name, by id()
_enclosing: list[Job] = []  # the jobs that this process entered by assign_self(), the innermost last
_joining: set[_native.Job] = set()  # which a forked child of ours is about to enter (preexec_fn)
_kept: set[_native.Job] = set()  # of Popens that were dropped; they end with this process


def _live() -> list[Job]:
    """The open jobs of this process, from a copy: a finalizer may take one out at any time."""
    return [job for job in (entry() for entry in _open.copy().values()) if job is not None]


def _lies_in(native: _native.Job, above: _native.Job) -> bool:
    parent = native.parent
    while parent is not None:
        if parent is above:
            return True
        parent = parent.parent
    return False


def _note(error: BaseException, text: str) -> None:
    """Adds to an exception under way, which is never replaced."""
    if sys.version_info >= (3, 11):
        error.add_note(text)
    else:
        warnings.warn(text, RuntimeWarning, stacklevel=3)


# -- dropped Popens: their jobs pass to this process ------------------------------------------------------------------

_sweep_at = 16


def _hand_over(native: _native.Job) -> None:
    """Called by finalizers: never blocks, never raises. Jobs found empty are closed, now or at a later hand-over."""
    global _sweep_at
    if _close_if_empty(native):
        return
    _kept.add(native)
    if len(_kept) >= _sweep_at:
        for other in _kept.copy():
            if _close_if_empty(other):
                _kept.discard(other)
        _sweep_at = max(16, 2 * len(_kept))


def _close_if_empty(native: _native.Job) -> bool:
    try:
        if not native.wait(0):
            return False
    except _native.ClosedError:
        pass  # the job around it was closed, and its members with it
    except Exception:
        return False  # cannot look now: ask again later
    native.close(False, 0)
    return True


# -- fork and exit ----------------------------------------------------------------------------------------------------


def _forget() -> None:
    """In a forked child: the jobs are the parent's.

    Their descriptors are closed now, while they are certainly theirs: a child that becomes a daemon closes all that it
    finds, and opens others by the same numbers.
    """
    for native in {*(job._core for job in _live()), *_kept} - _joining:
        native.close(False, 0.0)
    _enclosing.clear()
    _open.clear()
    _kept.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget)


@atexit.register
def _at_exit() -> None:
    """Ends, as far as 5 s suffice, the jobs that nobody else would end: those without the guarantee dies_with_owner."""
    deadline = time.monotonic() + _EXIT_SECONDS
    jobs = [job._core for job in _live()] + list(_kept)
    bits = {name: guarantees.bits_of(name) for name in {native.backend for native in jobs}}
    for native in jobs:
        if not native.keep and not bits[native.backend] & ~native.denied & _DIES_WITH_OWNER:
            _quietly(native.kill, max(0.0, deadline - time.monotonic()))


def _quietly(call: Any, *args: Any) -> None:
    with contextlib.suppress(Exception):  # at exit nobody is left to hear it
        call(*args)
