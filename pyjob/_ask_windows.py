"""Asking members to end, as Windows can: CTRL_BREAK to console groups, WM_CLOSE to windows. Only for `Job.stop()`."""

from __future__ import annotations

import ctypes
import signal
import sys
from ctypes import wintypes

from . import _native

if sys.platform == "win32":
    _WM_CLOSE = 0x10

    def ask(job: _native.Job, leaders: list[_native.Process]) -> bool:
        """Whether anybody could be asked.

        CTRL_BREAK goes only to programs that we know to lead a group of their own: for any other PID it would reach
        everybody on the console.
        """
        asked = False
        for leader in leaders:
            try:
                if job.contains(leader):
                    leader.send_signal(signal.CTRL_BREAK_EVENT)
                    asked = True
            except OSError:
                continue  # it has ended, or is on another console
        return _close_windows(job) or asked

    def _close_windows(job: _native.Job) -> bool:
        callback = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.HWND, wintypes.LPARAM)
        user32 = ctypes.WinDLL("user32", use_last_error=True)
        asked = False

        def owner(window: int) -> int:
            pid = wintypes.DWORD()
            user32.GetWindowThreadProcessId(wintypes.HWND(window), ctypes.byref(pid))
            return pid.value

        def visit(window: int, _: int) -> bool:
            nonlocal asked
            pid = owner(window)
            pinned = job.pin(pid) if pid else None
            if pinned is not None and owner(window) == pid:  # pinned: the PID cannot have gone to another meanwhile
                asked = bool(user32.PostMessageW(wintypes.HWND(window), _WM_CLOSE, 0, 0)) or asked
            return True

        user32.EnumWindows(callback(visit), 0)
        return asked
