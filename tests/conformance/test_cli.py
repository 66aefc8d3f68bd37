"""The command line: exit codes as of env(1) and timeout(1), backends, kill, and the demo that can fail."""

import errno
import os
import re
import signal
import subprocess
import sys

import pytest

from helpers.procs import DEADLINE, Identity, eventually
from helpers.tree import chain, node

posix = pytest.mark.skipif(os.name == "nt", reason="signals")
PYJOB = [sys.executable, "-m", "pyjob"]


def cli(*args, **options):
    return subprocess.run(
        [*PYJOB, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=100, **options
    )


def python(source):
    return [sys.executable, "-S", "-c", source]


def test_the_commands_own_status():
    for code in (0, 1, 7, 126, 200):
        assert cli("run", "--", *python(f"import sys; sys.exit({code})")).returncode == code


def test_its_output_is_its_own():
    result = cli("run", *python("import sys; print('out'); print('err', file=sys.stderr)"))
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


@posix
def test_killed_by_a_signal():
    assert cli("run", "--", *python("import os; os.kill(os.getpid(), 9)")).returncode == 128 + 9
    assert cli("run", "--", *python("import os; os.kill(os.getpid(), 15)")).returncode == 128 + 15


def test_not_found_and_not_executable(folder):
    result = cli("run", "--", str(folder / "missing"))
    assert result.returncode == 127 and "missing" in result.stderr
    if os.name == "posix":
        (folder / "script").write_text("echo\n")
        assert cli("run", "--", str(folder / "script")).returncode == 126


@posix
def test_the_empty_command_is_not_found():
    assert cli("run", "--", "").returncode == 127


full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")


@full
@pytest.mark.parametrize(
    "status, arguments",
    [
        (127, ["run", "--", "/pyjob-nonexistent"]),  # no folder of PATH decides
        (125, ["run"]),
        (125, ["run", "--name", "a/b", "--", "true"]),
        (2, ["nonsense"]),
        (2, ["kill"]),
        (1, ["kill", "0"]),
        (3, ["run", "--", *python("raise SystemExit(3)")]),
    ],
)
def test_no_status_depends_on_what_stderr_takes(status, arguments):
    with open("/dev/full", "w") as nowhere:
        assert subprocess.run([*PYJOB, *arguments], stderr=nowhere, timeout=100).returncode == status


@full
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["backends"], ["kill", "-h"]])
def test_what_stdout_does_not_take_is_a_failure_in_one_line(arguments):
    with open("/dev/full", "w") as nowhere:
        done = subprocess.run([*PYJOB, *arguments], stdout=nowhere, stderr=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == 1
    assert done.stderr.startswith("pyjob") and done.stderr.count("\n") == 1, done.stderr


def test_our_own_failure():
    assert cli("run").returncode == 125
    assert cli("run", "--nonsense", "--", "true").returncode == 125
    assert cli("run", "--timeout", "soon", "--", "true").returncode == 125
    assert cli("run", "--name", "a/b", "--", "true").returncode == 125
    assert cli("run", "--require", "nonsense", "--", "true").returncode == 125


def test_usage():
    assert cli().returncode == 2
    assert cli("nonsense").returncode == 2
    assert "usage" in cli("--help").stdout
    for command in ("run", "kill", "backends", "demo"):
        for option in ("-h", "--help"):
            result = cli(command, option)
            assert (result.returncode, result.stderr) == (0, "") and "usage" in result.stdout
    assert cli("nonsense", "--help").returncode == 2
    assert cli("run", "--", *python("import sys; sys.exit(len(sys.argv[1:]))"), "-h", "--help").returncode == 2


def test_a_timeout_ends_the_tree(tree, bystander):
    for timeout in (1.5, 6, 24):  # the first may be too short for the tree to come up
        family = tree(node("top", node("deaf", ignore=True), chain("a", "b"), ignore=True))
        result = cli("run", "--timeout", str(timeout), "--grace", "0.2", "--", *family.argv)
        assert result.returncode == 124, result.stderr
        if family.complete:
            break
    family.ready()
    family.assert_dead()
    bystander.assert_alive()


def test_leftovers_end_with_the_command(tree):
    family = tree(node("top", node("daemon", how="daemon" if os.name == "posix" else "exec"), exit=5))
    assert cli("run", "--", *family.argv).returncode == 5
    family.ready()
    family.assert_dead()


def test_keep(tree):
    family = tree(node("top", node("stays"), exit=0))
    process = subprocess.Popen([*PYJOB, "run", "--keep", "--", *family.argv], stdin=subprocess.DEVNULL)
    assert process.wait(DEADLINE) == 0
    family.ready()
    family.assert_alive()
    family.end()
    family.assert_dead()


@posix
def test_sigterm_stops_at_once(tree):
    family = tree(node("top", node("child", mark=True), mark=True))
    process = subprocess.Popen([*PYJOB, "run", "--", *family.argv], stdin=subprocess.DEVNULL)
    family.ready()
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == 0, "the command left with 0 when it was asked"
    assert family.was_asked("child")
    family.assert_dead()


# With something done in the midst of the start: signals are asked for, but there is nobody yet whom they could concern.
IN_THE_START = """
import os, resource, signal, sys, time
from pyjob.cli import main

def hook(event, arguments):
    if event == "subprocess.Popen" and todo:
        exec(todo.pop())

todo = [sys.argv[1]]
sys.addaudithook(hook)
sys.exit(main(["run", "--grace", "30", "--", *sys.argv[2:]]))
"""


def in_the_start(source, *command):
    return subprocess.run(
        [sys.executable, "-c", IN_THE_START, source, *command], capture_output=True, text=True, timeout=DEADLINE
    )


@posix
@pytest.mark.parametrize("number, times", [("SIGTERM", 1), ("SIGTERM", 2), ("SIGINT", 1), ("SIGINT", 3)])
def test_a_signal_during_the_start(number, times):
    source = f"os.kill(os.getpid(), signal.{number}); time.sleep(0.1); " * times
    result = in_the_start(source, "sleep", "300")
    ends = {128 + getattr(signal, number)} | ({128 + 9} if times == 3 else set())
    assert result.returncode in ends, result.stderr


@posix
def test_what_failed_is_named_unless_it_was_exec():
    result = in_the_start("resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))", "pyjob-nonexistent")
    assert result.returncode == 125
    assert re.match(rf"pyjob run: {os.strerror(errno.EMFILE)}.*\w{{3}}", result.stderr), result.stderr
    assert "nonexistent" not in result.stderr


@posix
def test_control_c_thrice(tree):
    """The first is the program's, the second stops, the third kills."""
    family = tree(node("top", node("child", ignore=True), ignore=True))
    process = subprocess.Popen([*PYJOB, "run", "--grace", "100", "--", *family.argv], stdin=subprocess.DEVNULL)
    family.ready()
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    family.assert_alive()
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    family.assert_alive()
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 128 + 9
    family.assert_dead()


def test_kill(tree, bystander):
    family = tree(chain("top", "child", "grandchild"))
    process = subprocess.Popen(family.argv)
    family.ready()
    result = cli("kill", str(process.pid))
    assert result.returncode == 0, result.stderr
    assert sorted(map(int, result.stdout.split())) == family.pids()
    family.assert_dead()
    process.wait()
    bystander.assert_alive()


def test_kill_without_the_root(tree):
    family = tree(chain("top", "child", "grandchild"))
    process = subprocess.Popen(family.argv)
    family.ready()
    assert cli("kill", "--no-root", str(process.pid)).returncode == 0
    family.assert_dead(["child", "grandchild"])
    family.assert_alive(["top"])
    process.kill()
    process.wait()


def test_kill_bad_pids():
    gone = subprocess.Popen(python(""))
    gone.wait()
    for bad in ("0", "-1", "x", "", "99999999999999999999"):
        assert cli("kill", bad).returncode != 0
    assert cli("kill").returncode == 2


def test_backends():
    import pyjob

    result = cli("backends")
    assert result.returncode == 0
    for one in pyjob.backends():
        assert one.name in result.stdout
        assert one.why in result.stdout
    for name in ("escape_proof", "dies_with_owner", "own_child"):
        assert name in result.stdout


def test_demo(backend, bystander):
    result = cli("demo", "--backend", str(backend))
    assert result.returncode == 0, result.stdout + result.stderr
    bystander.assert_alive()


SABOTAGE = """
import sys
import pyjob, pyjob.job
pyjob.job.Job.kill = lambda self, timeout=5.0: None
from pyjob.cli import main
sys.exit(main(["demo", "--backend", sys.argv[1]]))
"""


def test_demo_notices_a_kill_that_does_nothing(backend):
    result = subprocess.run(
        [sys.executable, "-c", SABOTAGE, str(backend)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
    )
    assert result.returncode == 1, result.stdout + result.stderr


def test_the_installed_command_is_the_module(folder):
    from importlib.metadata import entry_points

    found = [one for one in entry_points(group="console_scripts") if one.name == "pyjob"]
    if not found:
        pytest.skip("not installed as a distribution")
    assert found[0].value == "pyjob.cli:main"


@posix
def test_the_cli_killed_takes_its_command_along(tree):
    import pyjob

    with pyjob.Job() as job:
        if not job.guarantees.dies_with_owner:
            pytest.skip("not promised by the default backend")
    family = tree(chain("top", "child"))
    process = subprocess.Popen([*PYJOB, "run", "--", *family.argv], stdin=subprocess.DEVNULL)
    family.ready()
    identity = Identity.of(process.pid)
    process.kill()
    process.wait()
    family.assert_dead()
    eventually(lambda: not identity.alive())
