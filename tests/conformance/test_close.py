"""close() is idempotent, final, and never hides another exception; what a closed job still tells."""

import errno
import os
import subprocess
import sys
import threading

import pytest

import pyjob
from helpers.operations import OPERATIONS
from helpers.procs import DEADLINE, Identity, eventually
from helpers.tree import chain


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_on_a_closed_job(backend, operation):
    job = backend.job()
    job.close()
    with pytest.raises(pyjob.JobClosedError):
        OPERATIONS[operation](job)


def test_every_public_operation_is_in_the_list_above(backend):
    known = {*OPERATIONS, "open", "close", "name", "parent", "backend", "guarantees", "closed"} - {"contains"}
    assert {name for name in vars(pyjob.Job) if not name.startswith("_")} == known


def test_readable_after_close(backend, tree):
    job = backend.job()
    family = tree()
    program = job.popen(family.argv)
    family.ready()
    before = (job.name, job.parent, job.backend, job.guarantees)
    job.close()
    assert (job.name, job.parent, job.backend, job.guarantees) == before
    assert job.closed
    assert "closed" in repr(job)
    program.wait()


def test_twice(backend):
    job = backend.job()
    job.close()
    job.close()
    with backend.job() as again:
        again.close()


def test_with_closes(backend, tree):
    family = tree()
    with backend.job() as job:
        program = job.popen(family.argv)
        family.ready()
    assert job.closed
    family.assert_dead()
    program.wait()


def test_an_exception_under_way_is_not_replaced(backend, tree):
    family = tree(chain("top", "child"))
    with pytest.raises(ZeroDivisionError), backend.job() as job:
        program = job.popen(family.argv)
        family.ready()
        _ = 1 / 0
    family.assert_dead()
    program.wait()


def test_the_program_can_be_collected_after_close(backend, tree):
    job = backend.job()
    family = tree()
    program = job.popen(family.argv)
    family.ready()
    job.close()
    code = program.wait(DEADLINE)
    assert code == program.poll() == program.returncode
    assert code == -9 if os.name == "posix" else code


@pytest.mark.skipif(os.name == "nt", reason="the status tells the signal")
def test_the_program_can_be_collected_after_its_private_job_was_closed(backend):
    program = backend.popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    program.job.close()
    assert program.wait(DEADLINE) == -9


def test_with_popen_closes_its_private_job(backend, tree):
    family = tree(chain("top", "child"))
    with backend.popen(family.argv) as program:
        family.ready()
        program.terminate()
    assert program.returncode is not None
    assert program.job.closed
    family.assert_dead()


def test_the_exit_status_is_known_after_the_private_jobs_close(backend):
    process = backend.popen([sys.executable, "-c", "raise SystemExit(7)"], stdout=subprocess.PIPE)
    with process.stdout as output:
        output.read()  # to its end: the program is as good as gone
    eventually(lambda: not process.job.pids())
    process.job.close()
    assert process.wait(30) == 7


def test_a_second_close_returns_when_the_first_is_done(backend):
    job = backend.job()
    members = [job.popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(8)]
    members_then = [Identity.of(pid) for pid in job.pids()]
    first = threading.Thread(target=job.close)
    first.start()
    job.close()
    seen = [one for one in members_then if one.alive()]
    first.join()
    assert seen == []
    for member in members:
        with member:
            member.wait(30)


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
@pytest.mark.parametrize("free", range(5))
def test_out_of_descriptors_nobody_is_left_where_nobody_reaches_him(backend, owners, tree, free):
    """Either close() ends the members all the same, or the job is still open, to be closed again."""
    family = tree(chain("top", "child"))
    body = f"""
    import resource
    job = pyjob.Job(backend=backend)
    program = job.popen(argument)
    while not (folder / "next").exists():
        time.sleep(0.01)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    held = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for _ in range({free}):
        os.close(held.pop())
    try:
        job.close()
        refused = None
    except OSError as error:
        refused = error.errno
    for one in held:
        os.close(one)
    was_open = not job.closed
    job.close()
    report(refused=refused, was_open=was_open, closed=job.closed, ended=program.wait(30))
    """
    owner = owners(body, end="return", backend=str(backend), argument=family.argv)
    family.ready()
    (owner.folder / "next").touch()
    got = owner.ready()
    assert got["was_open"] == (got["refused"] is not None)
    assert got["refused"] in (None, errno.EMFILE)
    assert got["closed"] and got["ended"] == -9
    family.assert_dead()
    owner.end()
    assert owner.wait() == 0, owner.output
