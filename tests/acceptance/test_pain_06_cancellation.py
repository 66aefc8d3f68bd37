"""Pain 6. trio 3237, anyio 673: cancellation leaves the shell's child."""

import asyncio
import os
import subprocess

import pytest

from helpers.procs import Identity, eventually

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")


def test_a_cancelled_task_ends_the_shells_child(backend):
    seen = []

    async def work():
        with backend.popen("sleep 301; true", shell=True, stdout=subprocess.DEVNULL) as program:
            try:
                while len(program.job.pids()) < 2:
                    await asyncio.sleep(0.01)
                seen.extend(map(Identity.of, program.job.pids()))
                await asyncio.sleep(300)
            except asyncio.CancelledError:
                program.kill()
                raise

    async def main():
        task = asyncio.ensure_future(work())
        while not seen:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(main(), 60))
    assert len(seen) == 2
    eventually(lambda: not any(one.alive() for one in seen))
