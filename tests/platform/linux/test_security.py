"""What docs/security.md says, section by section."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyjob
from helpers.leftovers import roots_of
from helpers.procs import AS_NOBODY, DEADLINE, Identity, eventually
from helpers.under_test import Backend
from pyjob import _guard

NOBODY = 65534
SLEEPER = "import time; print('ready', flush=True); time.sleep(300)"
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to somebody else")


def ready(program: Any) -> Any:
    assert program.stdout.readline().strip() == b"ready"
    program.stdout.close()
    return program


@contextlib.contextmanager
def guarded() -> Iterator[tuple[Any, Identity]]:
    """A program on the reaper and its guard."""
    why = Backend.find("reaper")[1]
    if why:
        pytest.skip(why)
    with pyjob.Popen([sys.executable, "-S", "-c", SLEEPER], stdout=subprocess.PIPE, backend="reaper") as program:
        ready(program)
        stat = Path(f"/proc/{program.pid}/stat").read_text()
        yield program, Identity.of(int(stat.rpartition(")")[2].split()[1]))
        program.kill()


# ---- A hostile member, of the same user


def test_a_member_that_calls_itself_a_guard(backend: Any, bystander: Any) -> None:
    script = "import ctypes, time; ctypes.CDLL(None).prctl(15, b'pyjob-guard', 0, 0, 0)\n" + SLEEPER
    with backend.job() as job:
        program = ready(
            job.popen(["pyjob-guard", "-S", "-c", script], executable=sys.executable, stdout=subprocess.PIPE)
        )
        assert Path(f"/proc/{program.pid}/comm").read_text() == "pyjob-guard\n"
        assert job.pids() == [program.pid]
        job.kill()
        assert program.wait(DEADLINE) == -signal.SIGKILL
    bystander.assert_alive()


def test_a_member_that_kills_the_guard(bystander: Any) -> None:
    with guarded() as (program, guard):
        os.kill(guard.pid, signal.SIGKILL)
        eventually(lambda: program.poll() is not None)
    bystander.assert_alive()


def test_a_member_that_stops_the_guard() -> None:
    with guarded() as (program, guard):
        os.kill(guard.pid, signal.SIGSTOP)
        try:
            victim = Identity.of(program.pid)
            program.job.kill()
            assert not victim.alive()
        finally:
            os.kill(guard.pid, signal.SIGCONT)


# ---- A hostile name

REFUSED = ["", "/", "a/b", "../a", ".", "..", "a\0b", "a\nb", "\x1b[2J", "/etc/passwd", "x" * 300, "ü" * 200]
ODD = ["...", "%s%n", "-rf", "job.job", " ", "~", "$HOME", "`id`", "ü"]


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        pyjob.Job(name)
    with pytest.raises(ValueError, match=r".+"):
        pyjob.Job.open(name)


@pytest.fixture
def runtime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime directory of the test's own."""
    if Backend.find("cgroup")[1]:
        pytest.skip(Backend.find("cgroup")[1])
    made = folder / "runtime"
    made.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(made))
    return made


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_names_that_are_odd(name: str, runtime: Path) -> None:
    """A file of the directory, and nothing else."""
    before = sorted(runtime.parent.iterdir())
    with pyjob.Job(name, backend="cgroup") as job:
        assert job.name == name
        assert [one.name for one in (runtime / "pyjob").iterdir()] == [f"job.{name}"]
        with pyjob.Job.open(name) as opened:
            assert opened.pids() == []
    assert sorted(runtime.parent.iterdir()) == before


# ---- A hostile entry in /proc

NAMES = [b") R 1 1 1 1", b"a) Z 1\n", b"(((", b"))))", b"\n\n", b"1 (x) S 1 "]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_programs_with_confusing_names(name: bytes, backend: Any, bystander: Any) -> None:
    script = f"import ctypes, os; ctypes.CDLL(None).prctl(15, {name!r}, 0, 0, 0); child = os.fork()\n"
    script += "if child: print('ready', flush=True)\nimport time; time.sleep(300)"
    with backend.job() as job:
        program = ready(job.popen([sys.executable, "-S", "-c", script], stdout=subprocess.PIPE))
        assert Path(f"/proc/{program.pid}/comm").read_bytes()[:-1] == name[:15]
        eventually(lambda: len(job.pids()) == 2)
        (child,) = pyjob.children(program)
        assert sorted((program.pid, child)) == job.pids()
        assert program.pid in job
        assert bystander.pid not in job
        program.job.kill()
        assert job.pids() == []
    bystander.assert_alive()


def test_a_tree_with_confusing_names(bystander: Any) -> None:
    script = f"import ctypes, os, time; ctypes.CDLL(None).prctl(15, {NAMES[0]!r}, 0, 0, 0)\n"
    script += "if os.fork(): print('ready', flush=True)\ntime.sleep(300)"
    program = subprocess.Popen([sys.executable, "-S", "-c", script], stdout=subprocess.PIPE)
    ready(program)
    eventually(lambda: len(pyjob.children(program)) == 1)
    (child,) = pyjob.children(program)
    assert pyjob.kill_tree(program) == sorted((program.pid, child))
    program.wait(DEADLINE)
    bystander.assert_alive()


# ---- Symbolic links in runtime directories


def refused(runtime: Path) -> None:
    """A named job is refused, and leaves nothing behind."""
    with pytest.raises(OSError, match=r".+") as caught:
        pyjob.Job("name", backend="cgroup")
    assert caught.value.errno in (1, 13, 20, 40)  # EPERM, EACCES, ENOTDIR, ELOOP


def test_a_link_in_the_place_of_the_directory(runtime: Path) -> None:
    elsewhere = runtime.parent / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (runtime / "pyjob").symlink_to(elsewhere)
    refused(runtime)
    assert list(elsewhere.iterdir()) == []


def test_a_link_in_the_place_of_a_name(runtime: Path) -> None:
    precious = runtime.parent / "precious"
    precious.write_text("content")
    (runtime / "pyjob").mkdir(mode=0o700)
    (runtime / "pyjob" / "job.name").symlink_to(precious)
    refused(runtime)
    assert precious.read_text() == "content"


NAMED = """
import sys, pyjob
for make in (pyjob.Job, pyjob.Job.open):
    try:
        make("name", backend="cgroup") if make is pyjob.Job else make("name")
    except OSError as error:
        print(type(error).__name__, error.call)
pyjob.Job("other", backend="cgroup").close()
"""


def test_a_fifo_in_the_place_of_a_name(runtime: Path) -> None:
    """Nobody waits for somebody at its other end, neither for its own name nor for another."""
    (runtime / "pyjob").mkdir(mode=0o700)
    os.mkfifo(runtime / "pyjob" / "job.name")
    done = subprocess.run([sys.executable, "-c", NAMED], capture_output=True, text=True, timeout=60, cwd="/")
    assert done.stdout == 2 * "FileExistsError name of a job: what has it is no regular file\n", done.stderr
    assert [one.name for one in (runtime / "pyjob").iterdir()] == ["job.name"]


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o755, 0o1777], ids=oct)
def test_a_directory_that_is_open_to_others(runtime: Path, mode: int) -> None:
    (runtime / "pyjob").mkdir()
    (runtime / "pyjob").chmod(mode)
    refused(runtime)


@root
def test_a_directory_of_somebody_else(runtime: Path) -> None:
    (runtime / "pyjob").mkdir(mode=0o700)
    os.chown(runtime / "pyjob", NOBODY, NOBODY)
    refused(runtime)


@pytest.mark.parametrize("how", ["open to others", "a link", "a file"])
def test_a_runtime_directory_that_cannot_be_trusted(runtime: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is passed over: nothing is made in it."""
    if how == "open to others":
        runtime.chmod(0o777)
    elif how == "a link":
        link = runtime.parent / "link"
        link.symlink_to(runtime)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(link))
    else:
        runtime.rmdir()
        runtime.write_text("")
    with pyjob.Job(f"security-{os.getpid()}", backend="cgroup"):
        assert runtime.is_file() or list(runtime.iterdir()) == []


def test_nothing_that_another_user_can_write(runtime: Path) -> None:
    previous = os.umask(0)
    try:
        with pyjob.Job("name", backend="cgroup") as job:
            program = ready(job.popen([sys.executable, "-S", "-c", SLEEPER], stdout=subprocess.PIPE))
            made = [*runtime.rglob("*"), *roots_of(os.getpid())]
            for place in roots_of(os.getpid()):
                made += [one for one in place.rglob("*") if one.is_dir()]
            open_to_others = [one for one in made if one.lstat().st_mode & 0o022]
            foreign = [one for one in made if one.lstat().st_uid != os.geteuid()]
        program.wait(DEADLINE)
    finally:
        os.umask(previous)
    assert len(made) >= 4
    assert not open_to_others
    assert not foreign


LOCKS = """
import fcntl, os, sys
held = []
for path in sys.argv[1:]:
    for how in (os.O_RDONLY, os.O_WRONLY):
        try:
            held.append(os.open(path, how))
            print(path)
            fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass
print(flush=True)
sys.stdin.read()
"""

LOCKED = """
idle = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]
job = pyjob.Job(backend="cgroup")
programs = [job.popen(idle)]
report(made=True)
while not (folder / "locked").exists():
    time.sleep(0.01)
programs.append(subprocess.Popen(idle))
job.assign(programs[1])
job.assign_self()
programs.append(subprocess.Popen(idle))
report(members=len(job.pids()))
job.kill()
report(codes=[one.wait(30) for one in programs])
job.close()
"""


@root
@pytest.mark.tool("setpriv")
@pytest.mark.usefixtures("as_nobody")  # skips where nobody cannot run this Python
def test_another_user_locks_what_it_can(owners: Any) -> None:
    """The root it cannot even open; and it keeps nobody from what is done under the lock of a leaf."""
    owner = owners(LOCKED, end="return", backend="cgroup")
    eventually(lambda: owner.reported.get("made"))
    (made,) = roots_of(owner.pid)
    if not (made / "cgroup.kill").exists():
        pytest.skip("no cgroup.kill before Linux 5.14")
    argv = [*AS_NOBODY, sys.executable, "-S", "-c", LOCKS, *map(str, [made, *made.rglob("*")])]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as other:
        assert other.stdout is not None
        opened = list(iter(other.stdout.readline, "\n"))
        (owner.folder / "locked").touch()
        try:
            assert owner.ready() == {"made": True, "members": 4, "codes": [-signal.SIGKILL] * 3}
        finally:
            other.communicate()
    assert opened
    assert f"{made}\n" not in opened
    owner.end()
    assert owner.wait() == 0, owner.output


def test_the_installed_files_are_not_open_to_others() -> None:
    package = Path(pyjob.__file__).parent
    assert not [one for one in [package, *package.rglob("*")] if one.stat().st_mode & 0o002]


# ---- Descriptors that leak into children

LIST = (
    "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + fd)))"
)


def opened() -> set[int]:
    return {int(fd) for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")}


INHERITED = {fd for fd in opened() if os.get_inheritable(fd)}  # by whoever started the tests


def listed(text: str) -> set[int]:
    return set(map(int, re.findall(r"\d+", text)))


@pytest.fixture
def busy(backend: Any) -> Iterator[Any]:
    """A job in which a program runs, while all that it takes is open."""
    with backend.job() as job:
        program = ready(job.popen([sys.executable, "-S", "-c", SLEEPER], stdout=subprocess.PIPE))
        yield job
    program.wait(DEADLINE)


@pytest.mark.parametrize("close_fds", [True, False])
def test_what_a_program_gets(busy: Any, close_fds: bool) -> None:
    """What `subprocess` would have given it: the three streams, and what is inheritable."""
    command = [sys.executable, "-S", "-c", LIST]
    inheritable = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inheritable, True)
    try:
        options: dict[str, Any] = {"close_fds": close_fds, "capture_output": True, "text": True}
        ours = listed(busy.run(command, **options).stdout)
        stock = listed(subprocess.run(command, **options).stdout)
    finally:
        os.close(inheritable)
    assert ours == stock
    assert (inheritable in ours) is not close_fds


def test_what_others_start_meanwhile(busy: Any) -> None:
    mine = {fd for fd in opened() if fd > 2} - INHERITED
    assert mine  # there is something that could leak
    assert not [fd for fd in mine if os.get_inheritable(fd)]
    command = [sys.executable, "-S", "-c", LIST]
    assert not mine & listed(subprocess.run(command, close_fds=False, capture_output=True, text=True).stdout)
    read, write = os.pipe()
    try:
        os.set_inheritable(write, True)
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)])
        os.close(write)
        write = -1
        said = os.read(read, 10000).decode()
        os.waitpid(pid, 0)
    finally:
        os.close(read)
        if write != -1:
            os.close(write)
    assert not mine & listed(said)


def test_what_the_guard_keeps() -> None:
    """Not even what is inheritable: a lock or a pipe's end would be held as long as the tree lives."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        with guarded() as (_program, guard):
            pipe = os.readlink(f"/proc/self/fd/{write}")
            held = [os.readlink(one) for one in Path(f"/proc/{guard.pid}/fd").iterdir()]
            assert pipe not in held
            os.close(write)
            write = -1
            assert os.read(read, 1) == b""
    finally:
        os.close(read)
        if write != -1:
            os.close(write)


# ---- Setuid programs


def field(pid: int | str, name: str) -> str:
    return re.search(rf"^{name}:[ \t]*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.M).group(1)  # type: ignore[union-attr]


def test_privileges_are_as_outside(backend: Any) -> None:
    with backend.job() as job:
        program = ready(job.popen([sys.executable, "-S", "-c", SLEEPER], stdout=subprocess.PIPE))
        for name in ("NoNewPrivs", "Seccomp", "CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb", "Uid", "Gid", "Groups"):
            assert field(program.pid, name) == field("self", name), name


def test_the_guard_has_no_privilege() -> None:
    mode = os.stat(_guard.PATH).st_mode
    assert not mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH)
    with pytest.raises(OSError, match=r".+"):
        os.getxattr(_guard.PATH, "security.capability")
    with guarded() as (_program, guard):
        assert Path(f"/proc/{guard.pid}/environ").read_bytes() == b""


@root
@pytest.mark.tool("cc", "setpriv")
def test_a_setuid_program_is_named_as_a_survivor(folder: Path, as_nobody: Callable[[str], str]) -> None:
    """It became root altogether: an ordinary owner may not signal it, and is told so. It leaves by itself after 8 s."""
    folder.chmod(0o755)
    immune = folder / "immune"
    helper = Path(__file__).resolve().parents[2] / "helpers" / "immune.c"
    subprocess.run(["cc", "-O1", "-D_GNU_SOURCE", "-o", immune, helper], check=True)
    immune.chmod(0o4755)
    code = f"""
import subprocess
job = pyjob.Job(backend="reaper")
program = job.popen([{str(immune)!r}], stdout=subprocess.PIPE, text=True)
if program.stdout.readline() == "immune\\n":
    try:
        job.kill(timeout=0.5)
    except pyjob.SurvivorsError as error:
        assert error.pids == [program.pid]
        print("named")
    program.wait(30)
else:
    print("no setuid here")
job.close()
"""
    said = as_nobody(code)
    assert said in ("named", "no setuid here")
    if said != "named":
        pytest.skip("setuid programs have no effect here")
