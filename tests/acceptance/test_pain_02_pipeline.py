"""Pain 2. CPython 127874: a shell pipeline that cannot be killed."""

import os
import subprocess
import time

import pytest

from helpers.procs import DEADLINE, eventually

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")


def test_popen_kill(backend):
    program = backend.popen("sleep 301 | sleep 302 | sleep 303", shell=True, stdout=subprocess.PIPE)
    eventually(lambda: len(program.job.pids()) >= 3)
    program.kill()
    out, _ = program.communicate(timeout=DEADLINE)  # nobody holds the pipe any more
    assert out == b"" and program.returncode == -9
    assert program.job.pids() == []
    program.job.close()


def test_run_with_a_timeout(backend):
    begin = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        backend.run("echo first; sleep 301 | cat", shell=True, capture_output=True, text=True, timeout=3)
    assert time.monotonic() - begin < 3 + DEADLINE
    assert "first" in str(caught.value.output if isinstance(caught.value.output, str) else caught.value.output.decode())
