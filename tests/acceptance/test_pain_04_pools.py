"""Pain 4. CPython 111873: ProcessPoolExecutor workers outlive their SIGKILLed parent (fork, spawn, forkserver)."""

import os
import sys

import pytest

from helpers.procs import Identity, eventually

METHODS = ["spawn"] if os.name == "nt" else ["fork", "spawn", "forkserver"]

POOL = """
import concurrent.futures, multiprocessing, os, sys, time
def work(path):
    with open(path + ".new", "w") as out:
        out.write(str(os.getpid()))
    os.replace(path + ".new", path)
    time.sleep(300)
if __name__ == "__main__":
    pool = concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(sys.argv[1]))
    for path in sys.argv[2:]:
        pool.submit(work, path)
    time.sleep(300)
"""


@pytest.mark.needs("escape_proof")
@pytest.mark.parametrize("method", METHODS)
def test_the_pools_parent_is_killed(backend, folder, method):
    (folder / "pool.py").write_text(POOL)
    paths = [folder / "one", folder / "two"]
    with backend.popen([sys.executable, str(folder / "pool.py"), method, *map(str, paths)]) as program:
        eventually(lambda: all(path.exists() for path in paths))
        workers = [Identity.of(int(path.read_text())) for path in paths]
        assert {one.pid for one in workers} < set(program.job.pids())
        if os.name == "nt":
            program.terminate()
        else:
            os.kill(program.pid, 9)
        program.wait()
    assert not any(one.alive() for one in workers)


@pytest.mark.needs("dies_with_owner")
@pytest.mark.parametrize("method", METHODS)
def test_the_owner_above_the_pool_is_killed(backend, owners, folder, method):
    (folder / "pool.py").write_text(POOL)
    paths = [folder / "one", folder / "two"]
    argv = [sys.executable, str(folder / "pool.py"), method, *map(str, paths)]
    owner = owners(
        "program = pyjob.Popen(argument, backend=backend)", end="SIGKILL", backend=str(backend), argument=argv
    )
    owner.ready()
    eventually(lambda: all(path.exists() for path in paths))
    workers = [Identity.of(int(path.read_text())) for path in paths]
    owner.end()
    owner.wait()
    eventually(lambda: not any(one.alive() for one in workers))
