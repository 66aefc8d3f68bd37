"""send_signal(): one pass, each member at most once, all but the calling process."""

import os
import signal
import sys

import pytest

from helpers.procs import DEADLINE, eventually

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")

COUNTS = """
import os, signal, subprocess, sys, time
folder, depth = sys.argv[1], int(sys.argv[2])
me = os.path.join(folder, f"count-{depth}")
def count(number, frame):
    with open(me, "ab", 0) as out:
        out.write(b"x")
signal.signal(signal.SIGUSR1, count)
signal.alarm(120)
if depth:
    subprocess.Popen([sys.executable, "-S", "-c", sys.argv[3], folder, str(depth - 1), sys.argv[3]])
open(me + ".ready", "w").close()
while True:
    signal.pause()
"""


def counts(folder, depth):
    return [(folder / f"count-{n}").read_bytes() if (folder / f"count-{n}").exists() else b"" for n in range(depth + 1)]


def test_each_member_once(backend, folder, bystander):
    depth = 3
    with backend.job() as job:
        program = job.popen([sys.executable, "-S", "-c", COUNTS, str(folder), str(depth), COUNTS])
        eventually(lambda: all((folder / f"count-{n}.ready").exists() for n in range(depth + 1)))
        for expected in (b"x", b"xx", b"xxx"):
            job.send_signal(signal.SIGUSR1)
            eventually(
                lambda e=expected: counts(folder, depth) == [e] * (depth + 1), DEADLINE, lambda: counts(folder, depth)
            )
        assert len(job.pids()) == depth + 1
        job.kill()
        program.wait()
    assert counts(folder, depth) == [b"xxx"] * (depth + 1), "somebody got one too many"
    bystander.assert_alive()


def test_popen_send_signal_is_for_the_program_alone(backend, tree):
    from helpers.tree import chain

    family = tree(chain("top", "child"))
    with backend.popen(family.argv) as program:
        family.ready()
        program.send_signal(signal.SIGTERM)
        assert program.wait(DEADLINE) == -signal.SIGTERM
        family.assert_alive(["child"])
    family.assert_dead()


def test_signal_nought_and_an_empty_job(backend, tree):
    with backend.job() as job:
        job.send_signal(signal.SIGTERM)
        family = tree()
        program = job.popen(family.argv)
        family.ready()
        job.send_signal(0)
        family.assert_alive()
        job.kill()
        program.wait()


def test_stop_and_continue(backend, tree):
    from helpers.procs import processes

    def states(pids):
        return {one.state for one in processes() if one.pid in pids}

    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    with backend.job() as job:
        family = tree()
        program = job.popen(family.argv)
        family.ready()
        job.send_signal(signal.SIGSTOP)
        eventually(lambda: states(family.pids()) == {"T"})
        job.send_signal(signal.SIGCONT)
        eventually(lambda: "T" not in states(family.pids()))
        job.kill()
        program.wait()


def test_the_owner_is_not_signalled(backend, owners):
    """Also when it is a member of its own job."""
    body = """
    got = []
    signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
    job = pyjob.Job(backend=backend)
    try:
        job.assign_self()
        inside = True
    except pyjob.UnsupportedError:
        inside = False
    job.send_signal(signal.SIGUSR1)
    for _ in range(20):
        time.sleep(0.01)
    report(got=len(got), inside=inside)
    """
    owner = owners(body, end="return", backend=str(backend))
    assert owner.ready()["got"] == 0
    owner.end()
    assert owner.wait() == 0, owner.output
