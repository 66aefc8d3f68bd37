"""Sub-interpreters, whose module changed its name and its arguments with nearly every Python."""

from __future__ import annotations

import sys
from typing import Any

try:
    import _interpreters as module  # Python 3.13
except ImportError:
    import _xxsubinterpreters as module

destroy = module.destroy


def create(own_gil: bool) -> Any:
    """A GIL of its own since Python 3.12; before, one that is isolated in what it may do."""
    if sys.version_info >= (3, 13):
        return module.create("isolated" if own_gil else "legacy")
    return module.create(isolated=own_gil)


def run(number: Any, code: str) -> object:
    """None, or what says how it failed."""
    try:
        failure = module.run_string(number, code)
    except Exception as error:
        return error
    return getattr(failure, "formatted", failure)
