"""A lock file proves a death: the kernel frees it when its holder is gone, and not a moment before."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def take(fd: int) -> bool:
        """Takes the lock without waiting; False when somebody else holds it."""
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def take(fd: int) -> bool:
        """Takes the lock without waiting; False when somebody else holds it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def free(path: Path) -> bool:
    """Whether nobody holds the lock of an existing file."""
    fd = os.open(path, os.O_RDWR)
    try:
        return take(fd)
    finally:
        os.close(fd)
