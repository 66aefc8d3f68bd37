"""kill() ends every member and nobody else, and returns when they are dead."""

import os
import signal
import subprocess
import sys
import time

import pytest

import pyjob
from helpers.procs import DEADLINE, Identity, eventually
from helpers.tree import chain, node
from helpers.under_test import UNDER_WINE

posix = pytest.mark.skipif(os.name == "nt", reason="signals")


def test_all_are_dead_when_it_returns(backend, tree, bystander):
    with backend.job() as job:
        family = tree(node("top", chain("a", "b", "c"), node("d"), node("deaf", ignore=True)))
        program = job.popen(family.argv)
        identities = family.ready()
        assert job.kill() is None
        alive = [name for name, one in identities.items() if one.alive()]
        assert not alive, f"kill() returned while {alive} lived"
        family.assert_dead()
        assert job.pids() == []
        assert program.wait() == (-signal.SIGKILL if os.name == "posix" else program.returncode)
        assert program.returncode != 0
    bystander.assert_alive()


def test_an_empty_job(backend):
    with backend.job() as job:
        job.kill()
        job.kill(timeout=0)


def test_twice_and_again_used(backend, tree):
    with backend.job() as job:
        for _ in range(2):
            family = tree(chain("top", "child"))
            program = job.popen(family.argv)
            family.ready()
            job.kill()
            job.kill()
            program.wait()
            family.assert_dead()


@posix
def test_stopped_members(backend, tree):
    with backend.job() as job:
        family = tree(chain("top", "child"))
        program = job.popen(family.argv)
        family.ready()
        for pid in family.pids():
            os.kill(pid, signal.SIGSTOP)
        job.kill()
        program.wait()
        family.assert_dead()


def test_popen_kill_spares_its_siblings(backend, tree):
    """jupyter_client 104: ending one program's tree must not end its neighbour's."""
    with backend.job() as job:
        first, second = tree(chain("top", "child")), tree(chain("top", "child"))
        one, two = job.popen(first.argv), job.popen(second.argv)
        first.ready()
        second.ready()
        one.kill()
        one.wait()
        first.assert_dead()
        second.assert_alive()
        assert job.pids() == second.pids()
        job.kill()
        two.wait()


STORM = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
end = time.monotonic() + 120
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        break
else:
    open(sys.argv[2], "w").close()
    signal.pause()
while time.monotonic() < end:       # fork, setsid, exit, without pause
    if os.fork():
        os._exit(0)
    if sys.argv[3] == "setsid":
        os.setsid()
"""


@posix
def test_a_storm_of_forks(backend, folder):
    road = "setsid" if backend.has("escape_proof") else "stay"
    with backend.job() as job:
        program = job.popen([sys.executable, "-S", "-c", STORM, "8", str(folder / "ready"), road])
        eventually((folder / "ready").exists)
        job.kill(timeout=DEADLINE)
        assert job.pids() == []
        program.wait()


IMMUNE = os.environ.get("PYJOB_TEST_IMMUNE", "")  # made by run.py: a program that becomes root altogether, for 8 s


@pytest.mark.unprivileged
@pytest.mark.skipif(not IMMUNE, reason="run.py makes the setuid program, as root")
def test_survivors_are_named(backend):
    """Another user's setuid child refuses our signals; the atomic kill of a cgroup does not ask."""
    if backend == "process-group" and not backend.has("complete_list"):
        pytest.skip("nobody tells of a member that /proc hides")
    with backend.job() as job:
        program = job.popen([IMMUNE], stdout=subprocess.PIPE)
        assert program.stdout.readline() == b"immune\n"
        try:
            if backend == "cgroup":
                job.kill()
            else:
                with pytest.raises(pyjob.SurvivorsError) as caught:
                    job.kill(timeout=0.5)
                assert caught.value.pids == [program.pid]
                assert isinstance(caught.value, OSError)
        finally:
            program.stdout.close()
            program.wait(DEADLINE)
        job.wait(DEADLINE)


def test_a_deadline_that_has_passed_still_kills(backend, tree):
    with backend.job() as job:
        family = tree()
        program = job.popen(family.argv)
        family.ready()
        try:
            job.kill(timeout=0)
        except pyjob.SurvivorsError as survivors:
            assert set(survivors.pids) <= set(family.pids())
        family.assert_dead()
        program.wait()


@posix
def test_the_programs_exit_is_exact_after_kill(backend):
    with backend.job() as job:
        program = job.popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
        identity = Identity.of(program.pid)
        job.kill()
        assert program.wait(DEADLINE) == -signal.SIGKILL
        assert not identity.alive()
        assert program.poll() == -signal.SIGKILL


@pytest.mark.skipif(UNDER_WINE, reason="Wine 8's server exits when a start races with the end of its job")
def test_kill_while_starting(backend, tree, bystander):
    """Programs that are being started while another thread kills are either refused, killed, or alive and listed."""
    import threading

    with backend.job() as job:
        programs = []
        stop = threading.Event()

        def starter() -> None:
            while not stop.is_set():
                programs.append(job.popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"]))

        thread = threading.Thread(target=starter)
        thread.start()
        try:
            for _ in range(5):
                job.kill(timeout=DEADLINE)
                time.sleep(0.02)
        finally:
            stop.set()
            thread.join(DEADLINE)
        job.kill(timeout=DEADLINE)
        for program in programs:
            assert program.wait(DEADLINE) != 0
        assert job.pids() == []
    bystander.assert_alive()
