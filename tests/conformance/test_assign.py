"""assign(): pins, moves, looks again; what the process starts from then on is a member."""

import multiprocessing
import os
import subprocess
import sys
import time

import pytest

import pyjob
from helpers.procs import DEADLINE, eventually, processes

STARTS_WHEN_TOLD = """
import os, subprocess, sys, time
folder = sys.argv[1]
sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]
def write(name, text):
    with open(os.path.join(folder, name + ".new"), "w") as out:
        out.write(text)
    os.replace(os.path.join(folder, name + ".new"), os.path.join(folder, name))
before = subprocess.Popen(sleeper)
write("before", str(before.pid))
end = time.monotonic() + 120
while not os.path.exists(os.path.join(folder, "go")) and time.monotonic() < end:
    time.sleep(0.01)
after = subprocess.Popen(sleeper)
write("after", str(after.pid))
after.wait()
before.wait()
"""


@pytest.fixture
def stock(folder):
    """A process started by stock subprocess, with a child from before the assignment."""
    process = subprocess.Popen([sys.executable, "-S", "-c", STARTS_WHEN_TOLD, str(folder)])
    eventually((folder / "before").exists)
    yield process
    for name in ("before", "after"):
        if (folder / name).exists():
            try:
                os.kill(int((folder / name).read_text()), 9)
            except OSError:
                pass
    process.kill()
    process.wait(DEADLINE)


@pytest.mark.needs("assign")
def test_its_later_children_are_members_and_its_earlier_are_not(backend, stock, folder, bystander):
    with backend.job() as job:
        assert job.assign(stock) is None
        assert stock in job
        assert job.pids() == [stock.pid]
        (folder / "go").touch()
        eventually((folder / "after").exists)
        before, after = (int((folder / name).read_text()) for name in ("before", "after"))
        assert job.pids() == sorted([stock.pid, after])
        assert before not in job
        job.kill()
        assert stock.wait(DEADLINE) != 0
        with pyjob.ProcessHandle(before) as handle:
            assert handle.is_alive(), "who was there before is not moved, so not killed"
    bystander.assert_alive()


class HasPid:
    def __init__(self, pid):
        self.pid = pid


@pytest.mark.needs("assign")
@pytest.mark.parametrize(
    "wrap", [lambda p: p.pid, lambda p: p, lambda p: HasPid(p.pid)], ids=["int", "Popen", "object"]
)
def test_what_can_be_assigned(backend, stock, wrap):
    with backend.job() as job:
        job.assign(wrap(stock))
        assert job.pids() == [stock.pid]


@pytest.mark.needs("assign")
def test_a_process_handle(backend, stock):
    with backend.job() as job, pyjob.ProcessHandle(stock.pid) as handle:
        job.assign(handle)
        assert handle in job


@pytest.mark.needs("assign")
def test_psutil(backend, stock):
    psutil = pytest.importorskip("psutil", exc_type=ImportError)  # which it raises in a sub-interpreter, too
    with backend.job() as job:
        job.assign(psutil.Process(stock.pid))
        assert job.pids() == [stock.pid]


@pytest.mark.main_interpreter
@pytest.mark.needs("assign")
@pytest.mark.skipif(os.name == "nt", reason="spawn imports the main module, which is pytest")
def test_multiprocessing(backend):
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
    process.start()
    try:
        with backend.job() as job:
            job.assign(process)
            assert job.pids() == [process.pid]
        process.join(DEADLINE)
        assert process.exitcode == -9
    finally:
        process.kill()
        process.join()
        process.close()


@pytest.mark.needs("assign")
def test_a_finished_process_is_refused(backend):
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    if os.name == "posix":
        os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)  # dead, not reaped: the PID is still its own
        with backend.job() as job, pytest.raises(ProcessLookupError):
            job.assign(gone)
    gone.wait()
    with backend.job() as job:
        with pytest.raises(ProcessLookupError if os.name == "posix" else (OSError, ValueError)):
            job.assign(gone.pid)
        assert job.pids() == []


@pytest.mark.needs("assign")
def test_from_one_job_to_another(backend, tree):
    if os.name == "nt":
        pytest.skip("Windows jobs nest: a process does not leave its first one")
    with backend.job() as one, backend.job() as two:
        family = tree()
        program = one.popen(family.argv)
        family.ready()
        two.assign(family.pid("grandchild"))
        assert two.pids() == [family.pid("grandchild")]
        assert one.pids() == family.pids(["top", "child"])
        two.kill()
        family.assert_dead(["grandchild"])
        family.assert_alive(["top", "child"])
        one.kill()
        program.wait()


@pytest.mark.lacks("assign")
def test_where_it_is_impossible(backend, stock):
    with backend.job() as job:
        with pytest.raises(pyjob.UnsupportedError):
            job.assign(stock)
        assert job.pids() == []
        assert stock.poll() is None


@pytest.mark.needs("assign")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a thread's id")
def test_a_thread_is_no_process(backend):
    import threading

    ids = []
    go, done = threading.Event(), threading.Event()

    def run():
        ids.append(threading.get_native_id())
        go.set()
        done.wait(DEADLINE)

    thread = threading.Thread(target=run)
    thread.start()
    go.wait(DEADLINE)
    try:
        with backend.job() as job, pytest.raises(ProcessLookupError):
            job.assign(ids[0])
    finally:
        done.set()
        thread.join()


@pytest.mark.needs("assign")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_kernel_thread_is_refused(backend):
    threads = [one for one in processes() if one.ppid == 2 and not one.argv()]
    if not threads:
        pytest.skip("no kernel thread is visible in this PID namespace")
    with backend.job() as job:
        with pytest.raises(PermissionError, match="kernel thread"):
            job.assign(threads[0].pid)
        assert job.pids() == []


ASSIGNS_INIT = """
import sys
sys.path[:0] = {path!r}
import pyjob
with pyjob.Job(backend={backend!r}) as job:
    try:
        job.assign(1)
    except PermissionError as error:
        print(error)
    assert job.pids() == [], job.pids()
"""


@pytest.mark.needs("assign")
@pytest.mark.root
@pytest.mark.tool("unshare")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a PID namespace of our own")
def test_init_is_refused(backend, folder):
    (folder / "script.py").write_text(ASSIGNS_INIT.format(path=sys.path, backend=str(backend)))
    shell = ["sh", "-c", '"$0" "$1"; echo "ended with $?"', sys.executable, str(folder / "script.py")]
    argv = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", *shell]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=100)
    assert "init of our PID namespace" in result.stdout and "ended with 0" in result.stdout, result


@pytest.mark.needs("assign")
def test_a_closed_handle_is_refused(backend):
    with backend.job() as job, subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        handle = pyjob.ProcessHandle(process)
        handle.close()
        with pytest.raises(ValueError, match="closed"):
            job.assign(handle)
        assert process.pid not in job
        process.kill()


@pytest.mark.needs("assign")
def test_a_closed_handle_of_the_caller_is_refused(backend):
    with backend.job() as job:
        handle = pyjob.ProcessHandle(os.getpid())
        handle.close()
        with pytest.raises(ValueError, match="closed"):
            job.assign(handle)
        assert os.getpid() not in job
