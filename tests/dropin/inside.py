"""Runs a test module of this interpreter's standard library with ours, or stock, in place of `subprocess`.

    python inside.py BACKEND|stock REPORT MODULE [TEST...]

REPORT gets a line of JSON for each test: its id, "ok", "skip" or "fail", and the text. Only what the test suite's own
interpreter imports is used here: no pytest.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import types
import unittest
from typing import Any, TextIO


class Mirror(types.ModuleType):
    """`subprocess`: whatever a test puts in place of Popen is what our run() starts, as the stock run() does."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "Popen":
            import pyjob._run

            pyjob._run.Popen = value  # type: ignore[misc, assignment]


def put_in_place(backend: str) -> None:
    import pyjob

    class Popen(pyjob.Popen[Any]):
        """`with`, `run` and all the rest of it are ours; only the backend is chosen here."""

        @functools.wraps(pyjob.Popen.__init__)
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.setdefault("backend", backend)
            super().__init__(*args, **kwargs)

    subprocess.__class__ = Mirror  # type: ignore[assignment]
    for name in ("run", "call", "check_call", "check_output"):
        setattr(subprocess, name, getattr(pyjob, name))
    subprocess.Popen = Popen  # type: ignore[misc]


class Result(unittest.TextTestResult):
    report: TextIO

    def _tell(self, test: Any, what: str, text: str = "") -> None:
        test = getattr(test, "test_case", test)  # a subtest
        self.report.write(json.dumps([test.id(), what, text]) + "\n")
        self.report.flush()

    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        self._tell(test, "ok")

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        self._tell(test, "skip", reason)

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self._tell(test, "fail", self.errors[-1][1])

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self._tell(test, "fail", self.failures[-1][1])

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._tell(test, "fail", f"{subtest}: {err[1]!r}")


def main(chosen: str, report: str, module: str, *tests: str) -> None:
    if chosen != "stock":
        put_in_place(chosen)
    loader = unittest.TestLoader()
    suite = loader.loadTestsFromNames(tests or [module])
    with open(report, "w") as Result.report:
        unittest.TextTestRunner(resultclass=Result, verbosity=2).run(suite)


if __name__ == "__main__":
    main(*sys.argv[1:])
