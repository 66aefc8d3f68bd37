"""In a forked child everything but close() raises, and nothing the child does or forgets kills the members."""

import ctypes
import gc
import os
import signal

import pytest

from helpers.tree import chain

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="fork() is a POSIX call"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def in_child(action, fork=None):
    """Runs `action` in a forked child; returns its exit code, after a normal finalisation where asked by SystemExit."""
    pid = (fork or os.fork)()
    if pid == 0:
        code = 70
        try:
            code = action() or 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.main_interpreter
def test_operations_in_the_child(backend, tree):
    import pyjob
    from helpers.operations import OPERATIONS

    with backend.job() as job:
        family = tree(chain("top", "child"))
        program = job.popen(family.argv)
        family.ready()

        def child():
            for name, operation in OPERATIONS.items():
                try:
                    operation(job)
                except pyjob.JobClosedError:
                    continue
                except BaseException as error:
                    print(f"{name}: {error!r}")
                    return 1
                print(f"{name} did not raise")
                return 2
            return 0

        assert in_child(child) == 0
        family.assert_alive()
        assert job.pids() == family.pids()
        job.kill()
        program.wait()


@pytest.mark.main_interpreter
def test_close_in_the_child_does_nothing(backend, tree):
    with backend.job() as job:
        family = tree(chain("top", "child"))
        program = job.popen(family.argv)
        family.ready()

        def child():
            job.close()
            program.job.close()
            return 0 if job.closed else 1

        assert in_child(child) == 0
        family.assert_alive()
        assert not job.closed
        job.kill()
        program.wait()


@pytest.mark.main_interpreter
@pytest.mark.parametrize("fork", [None, lambda: ctypes.PyDLL(None).fork()], ids=["os.fork", "in C"])
def test_a_popen_in_the_child_ends_nobody_and_says_so(backend, tree, fork):
    import pyjob

    family = tree(chain("top", "child"))
    program = backend.popen(family.argv)
    family.ready()

    def child():
        for end in (program.kill, program.stop):
            try:
                end()
            except pyjob.JobClosedError:
                continue
            return 1
        return 0 if program.returncode is None else 2

    assert in_child(child, fork) == 0
    family.assert_alive()
    program.kill()
    assert program.wait() == -signal.SIGKILL


def test_what_the_child_forgets(backend, owners, tree):
    """The child drops everything and ends by its interpreter's whole finalisation, atexit included."""
    family = tree(chain("top", "child"))
    body = """
    job = pyjob.Job(backend=backend)
    program = job.popen(argument)
    from pathlib import Path
    while not Path(argument[-2], "top.json").exists():
        time.sleep(0.01)
    if os.fork() == 0:
        del job, program
        sys.exit(0)
    code = os.waitstatus_to_exitcode(os.wait()[1])
    report(code=code, pids=job.pids(), me=os.getpid())
    """
    owner = owners(body, end="return", backend=str(backend), argument=family.argv)
    # In the child, SystemExit leaves the body through owner.py's own failure path: exit code 0.
    got = owner.ready()
    family.ready()
    assert got["code"] == 0
    assert got["pids"] == family.pids()
    family.assert_alive()
    owner.end()
    assert owner.wait() == 0, owner.output
    family.assert_dead()


@pytest.mark.main_interpreter
def test_the_childs_own_job(backend, tree, folder):
    """Daemonize before making a job: the child has guards and roots of its own."""
    mine, its = tree(chain("top", "child")), tree(chain("top", "child"))
    with backend.job() as job:
        program = job.popen(mine.argv)
        mine.ready()

        def child():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            with backend.job() as own:
                started = own.popen(its.argv)
                its.ready()
                good = own.pids() == its.pids()
                own.kill()
                started.wait()
            return 0 if good else 1

        assert in_child(child) == 0
        its.ready()
        its.assert_dead()
        mine.assert_alive()
        job.kill()
        program.wait()


@pytest.mark.needs("dies_with_owner")
def test_a_forked_child_does_not_keep_the_members_alive(backend, owners, tree):
    """It holds copies of every descriptor; the owner is watched by identity, not by the end of a pipe."""
    family = tree(chain("top", "child"))
    body = """
    job = pyjob.Job(backend=backend)
    program = job.popen(argument)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    report(child=child)
    """
    owner = owners(body, end="SIGKILL", backend=str(backend), argument=family.argv)
    child = owner.ready()["child"]
    family.ready()
    owner.end()
    owner.wait()
    try:
        family.assert_dead()
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.main_interpreter
def test_a_child_that_becomes_a_daemon_keeps_its_files(backend, folder, tree):
    """It closes all descriptors, and opens others by the same numbers: what it forgets of ours must not close those."""
    family = tree(chain("top", "child"))
    held = [backend.job()]
    held.append(held[0].popen(family.argv))
    family.ready()

    def daemon():
        os.setsid()
        os.closerange(3, 256)
        files = [open(folder / str(number), "w") for number in range(40)]  # noqa: SIM115
        held.clear()
        gc.collect()
        for file in files:
            file.write("hello")
            file.flush()

    assert in_child(daemon) == 0
    family.assert_alive()
    job, program = held
    job.close()
    program.wait()
    family.assert_dead()


@pytest.mark.main_interpreter
@pytest.mark.needs("named")
def test_a_job_opened_by_name_is_closed_at_fork_too(backend, folder):
    import pyjob

    name = f"fork-{os.getpid()}-{folder.name}"
    with backend.job(name=name), pyjob.Job.open(name) as opened:
        before = set(os.listdir("/proc/self/fd"))

        def child():
            left = set(os.listdir("/proc/self/fd"))
            assert len(left) < len(before), (before, left)
            return 0 if opened.closed else 3

        assert in_child(child) == 0
        assert opened.pids() == []


def test_a_fork_that_python_does_not_know_of(backend, owners, tree):
    """One made by a library in C, without the hooks of os.fork()."""
    family = tree(chain("top", "child"))
    body = """
    import ctypes
    job = pyjob.Job(backend=backend)
    program = job.popen(argument)
    child = ctypes.CDLL(None).fork()
    if child == 0:
        try:
            job.pids()
        except pyjob.JobClosedError:
            job.close()
            program.__exit__(None, None, None)
            sys.exit(42)
        os._exit(1)
    report(code=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), alive=program.poll() is None)
    """
    owner = owners(body, end="return", backend=str(backend), argument=family.argv)
    assert owner.ready() == {"code": 42, "alive": True}
    family.ready()
    family.assert_alive()
    owner.end()
    assert owner.wait() == 0, owner.output
    family.end()
