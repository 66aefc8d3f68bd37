"""Run by the tests: pytest in a sub-interpreter. `inside.py own|shared ARGUMENT…`, where that is whose GIL it has."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]
from helpers import interpreters  # noqa: E402

CODE = """
import sys
sys.path[:] = {path!r}
import pytest
assert (code := pytest.main({arguments!r})) == 0, code
"""
number = interpreters.create(own_gil=sys.argv[1] == "own")
failure = interpreters.run(number, CODE.format(path=sys.path, arguments=sys.argv[2:]))
interpreters.destroy(number)
print(failure or "its end was quiet")
sys.exit(failure is not None)
