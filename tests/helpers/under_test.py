"""The backend that a test runs on, and the choice among them by what they promise."""

from __future__ import annotations

import os
import sys
from typing import Any

if sys.platform.startswith("linux"):
    LADDER = ["cgroup", "reaper", "process-group"]
elif sys.platform == "win32":
    LADDER = ["job-object"]
else:
    LADDER = ["process-group"]

UNDER_WINE = sys.platform == "win32" and hasattr(__import__("ctypes").windll.ntdll, "wine_get_version")

# A lane of tests/run.py names those that it is there for; by hand: PYJOB_TEST_BACKENDS=reaper pytest …
CHOSEN = [one for one in os.environ.get("PYJOB_TEST_BACKENDS", "").split(",") if one] or LADDER
STRICT = bool(os.environ.get("PYJOB_REQUIRE_ALL"))


class Backend(str):
    """Its name, wherever a name is wanted, with what it promises."""

    guarantees: frozenset[str]

    @classmethod
    def find(cls, name: str) -> tuple[Backend, str]:
        """The backend and "" or the reason why it is not available."""
        import pyjob

        for info in pyjob.backends():
            if info.name == name:
                made = cls(name)
                made.guarantees = frozenset(info.guarantees)
                return made, "" if info.available else f"{name}: {info.why or 'not available'}"
        return cls(name), f"{name}: not known to pyjob.backends()"

    def has(self, *guarantees: str) -> bool:
        return self.guarantees.issuperset(guarantees)

    def job(self, **options: Any) -> Any:
        import pyjob

        return pyjob.Job(backend=str(self), **options)

    def popen(self, *args: Any, **options: Any) -> Any:
        import pyjob

        return pyjob.Popen(*args, backend=str(self), **options)

    def run(self, *args: Any, **options: Any) -> Any:
        import pyjob

        return pyjob.run(*args, backend=str(self), **options)
