"""Asks members that have windows to close them, as Windows can. Only for `Job.stop()`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from ctypes import wintypes

from . import _native

if sys.platform == "win32":
    _WM_CLOSE = 0x10

    def close_windows(job: _native.Job) -> None:
        """Posts WM_CLOSE to each top-level window of a member; never waits for an answer."""
        callback = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.HWND, wintypes.LPARAM)
        user32 = ctypes.WinDLL("user32")

        def owner(window: int) -> int:
            pid = wintypes.DWORD()
            user32.GetWindowThreadProcessId(wintypes.HWND(window), ctypes.byref(pid))
            return pid.value

        def is_console(window: int) -> bool:  # closing one would end everybody on it, perhaps the caller
            name = ctypes.create_unicode_buffer(32)
            user32.GetClassNameW(wintypes.HWND(window), name, len(name))
            return name.value in ("ConsoleWindowClass", "PseudoConsoleWindow")

        def visit(window: int, _: int) -> bool:
            pid = owner(window)
            if pid not in (0, os.getpid()) and not is_console(window):
                with contextlib.suppress(OSError):  # who may not be pinned cannot be asked
                    pinned = job.pin(pid)  # from here on the PID cannot go to another process
                    if pinned is not None and owner(window) == pid:
                        user32.PostMessageW(wintypes.HWND(window), _WM_CLOSE, 0, 0)
            return True

        user32.EnumWindows(callback(visit), 0)
