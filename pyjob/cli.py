"""The command line: `pyjob run`, `kill`, `backends` and `demo`."""

from __future__ import annotations

import getopt
import signal
import sys
import threading
import time

from .errors import JobClosedError, SurvivorsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from .job import Job
    from .popen import Popen

USAGE = """\
usage: pyjob run [--timeout S] [--grace S] [--name N] [--require G] [--keep] -- COMMAND...
       pyjob kill [--no-root] PID
       pyjob backends
       pyjob demo [--backend B]
"""

HELP = """
run       Runs a command in a job; when the command ends, so does whatever it left behind.
            --timeout S   stop all of it after S seconds (exit status 124)
            --grace S     how long to wait between asking and killing (default 10)
            --name N      give the job a name that Job.open() finds
            --require G   insist on a guarantee; can be repeated, or several with commas
            --keep        let what the command leaves behind live on
          Ctrl-C is the command's; the second one stops the job, the third kills it. SIGTERM stops it at once.
          Exit status: the command's own; 124 on timeout; 125 pyjob failed; 126 cannot execute; 127 not found;
          128+N killed by signal N.
kill      Ends a process and its tree, job or not, and prints whom it ended.
            --no-root     spare the process itself
backends  Shows what this machine offers, what each backend promises, and why one is missing.
demo      Starts a small tree, ends all of it and nothing else, and checks that this is what happened.
"""

TIMED_OUT, FAILED, CANNOT_EXECUTE, NOT_FOUND = 124, 125, 126, 127
LEFTOVER_GRACE = 2.0  # seconds, as in pyjob.run()


class UsageError(Exception):
    pass


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status."""
    args = sys.argv[1:] if argv is None else argv
    commands = {"run": run, "kill": kill, "backends": backends, "demo": demo}
    command = commands.get(args[0]) if args else None
    own_failure = FAILED if command is run else 1
    name = f"pyjob {args[0]}" if command else "pyjob"
    try:
        if args[:1] == ["help"] or {"-h", "--help"}.intersection(args[: 2 if command else 1]):
            status = _show(USAGE + HELP)
        elif args[:1] == ["--version"]:
            from . import __version__

            status = _show(f"pyjob {__version__}\n")
        elif command is None:
            _complain(USAGE)
            return 2
        else:
            status = command(args[1:])
        if sys.stdout is not None:
            sys.stdout.flush()  # what cannot be written fails while that can still be told
        return status
    except (UsageError, getopt.GetoptError) as error:
        _complain(f"{name}: {error}\n{USAGE}")
        return FAILED if command is run else 2
    except (OSError, ValueError) as error:
        _complain(f"{name}: {error}\n")
        return own_failure
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        _give_up_unwritable()


def _show(text: str) -> int:
    print(text, end="")
    return 0


def _complain(text: str) -> None:
    """To stderr. Whether that can be written decides no exit status."""
    try:
        if sys.stderr is not None:
            print(text, end="", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


def _give_up_unwritable() -> None:
    """What cannot be written is not tried again when the interpreter ends, which would change the exit status."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except (AttributeError, OSError, ValueError):  # None: closed from the beginning
            setattr(sys, name, None)


# -- run --------------------------------------------------------------------------------------------------------------


def run(argv: list[str]) -> int:
    from .job import Job

    options, command = getopt.getopt(argv, "", ["timeout=", "grace=", "name=", "require=", "keep"])
    timeout: float | None = None
    grace = 10.0
    name: str | None = None
    require: list[str] = []
    keep = False
    for option, value in options:
        if option == "--timeout":
            timeout = _seconds(option, value)
        elif option == "--grace":
            grace = _seconds(option, value)
        elif option == "--name":
            name = value
        elif option == "--require":
            require += [part.strip() for part in value.split(",")]
        elif option == "--keep":
            keep = True
    if not command:
        raise UsageError("no command given")
    with Job(name, kill_on_close=not keep, require=require) as job:
        return _Run(job, grace).execute(command, timeout, keep)


def _seconds(option: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"{option} takes a number of seconds, not {value!r}")
    return seconds


class _Run:
    """One `pyjob run`. Signals are answered by threads, so that no handler ever interrupts the wait at a bad place."""

    def __init__(self, job: Job, grace: float) -> None:
        self.job = job
        self.grace = grace
        self.program: Popen[bytes] | None = None
        self.missed: list[int] = []  # signals for the command that came before it was there
        self.interrupts = 0
        self.terminated = False
        self.stopping: list[threading.Thread] = []
        self.survivors: SurvivorsError | None = None

    def execute(self, command: list[str], timeout: float | None, keep: bool) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        before = self._catch_signals()
        try:
            try:
                program = self.job.popen(command)
            except OSError as error:
                return _report_start(command[0], error)
            self._catch_up(program)
            status = self._await(program, deadline)
            self._leave(keep and status != TIMED_OUT)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return status

    def _await(self, program: Popen[bytes], deadline: float | None) -> int:
        timed_out = False
        while True:
            left = None if deadline is None or timed_out else max(0.0, deadline - time.monotonic())
            if sys.platform == "win32":  # a wait without end would not see Ctrl-C there
                left = 0.2 if left is None else min(left, 0.2)
            status = _wait(program, left)
            if status is not None:
                break
            if deadline is not None and not timed_out and time.monotonic() >= deadline:
                timed_out = True
                self._in_thread(self.stop)
            self._give_up_on_survivors()
        for thread in self.stopping:
            thread.join()
        if timed_out:
            return TIMED_OUT
        return 128 - status if status < 0 else status

    def _leave(self, keep: bool) -> None:
        """Ends, or with --keep lets go, what the command left behind."""
        if keep:
            self.job.release()
        else:
            self._give_up_on_survivors()
            self.job.stop(min(self.grace, LEFTOVER_GRACE))

    def _give_up_on_survivors(self) -> None:
        if self.survivors is not None:
            raise self.survivors

    def _catch_signals(self) -> dict[int, Any]:
        handlers: dict[int, Any] = {signal.SIGINT: self._on_interrupt, signal.SIGTERM: self._on_terminate}
        if sys.platform != "win32":
            handlers[signal.SIGQUIT] = self._on_quit
        before: dict[int, Any] = {}
        for number, handler in handlers.items():
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and the like: stays ignored
                before[number] = signal.signal(number, handler)
        return before

    def _catch_up(self, program: Popen[bytes]) -> None:
        """Acts on what was asked during the start, when there was nobody to stop."""
        self.program = program
        if sys.platform != "win32":
            for number in self.missed:
                program.send_signal(number)
        self._act()

    def _act(self) -> None:
        if self.program is None:
            return  # _catch_up() will
        if self.interrupts >= 3:
            self._in_thread(self.kill)
        elif (self.interrupts == 2 or self.terminated) and not any(thread.is_alive() for thread in self.stopping):
            self._in_thread(self.stop)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        self._for_command(number)
        self.interrupts += 1
        self._act()

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self._give_up_on_survivors()  # sent by _guarded(), to end a wait for a command that cannot be ended
        self.terminated = True
        self._act()

    def _on_quit(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-\\ is the command's. A handler, since what is ignored would be ignored by the command too."""
        self._for_command(number)

    def _for_command(self, number: int) -> None:
        """The terminal sends it to the command as well, if that is there yet."""
        if self.program is None:
            self.missed.append(number)

    def _in_thread(self, action: Any) -> None:
        thread = threading.Thread(target=self._guarded, args=(action,), daemon=True)
        self.stopping.append(thread)
        thread.start()

    def _guarded(self, action: Any) -> None:
        try:
            action()
        except SurvivorsError as error:
            self.survivors = error
            if sys.platform != "win32":
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        except JobClosedError:
            pass  # all is over already

    def stop(self) -> None:
        self.job.stop(self.grace)

    def kill(self) -> None:
        self.job.kill()


def _wait(program: Popen[bytes], timeout: float | None) -> int | None:
    import subprocess

    try:
        return program.wait(timeout)
    except subprocess.TimeoutExpired:
        return None


def _report_start(program: str, error: OSError) -> int:
    """The status for a command that could not be started. Only exec's errors name the program as their file."""
    if sys.platform == "win32":
        codes = {2: NOT_FOUND, 3: NOT_FOUND, 5: CANNOT_EXECUTE, 193: CANNOT_EXECUTE}  # of CreateProcess
        status = codes.get(error.winerror, FAILED)
    elif error.filename != program:
        status = FAILED
    else:  # "" is looked for as a file in each directory of PATH, and is the directory
        status = NOT_FOUND if isinstance(error, FileNotFoundError) or not program else CANNOT_EXECUTE
    text = error.strerror or str(error)
    culprit = getattr(error, "call", "") if status == FAILED else repr(program)
    _complain(f"pyjob run: {text}{f': {culprit}' if culprit not in text else ''}\n")
    return status


# -- kill, backends, demo ---------------------------------------------------------------------------------------------


def kill(argv: list[str]) -> int:
    from .process import kill_tree

    options, rest = getopt.gnu_getopt(argv, "", ["no-root"])
    if len(rest) != 1 or not rest[0].isascii() or not rest[0].isdigit():
        raise UsageError("one PID is needed")
    killed = kill_tree(int(rest[0]), include_root=not options)
    print(" ".join(map(str, killed)))
    return 0


def backends(argv: list[str]) -> int:
    if argv:
        raise UsageError("takes no arguments")
    from .guarantees import Guarantees
    from .guarantees import backends as probe

    found = probe()
    rows = [["", *(row.name for row in found)]]
    rows.append(["available", *("yes" if row.available else "no" for row in found)])
    for name in Guarantees.__slots__:
        rows.append([name, *("yes" if name in row.guarantees else "no" for row in found)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for line in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for row in found:
        if not row.available:
            print(f"\n{row.name}: {row.why}" + (f"\n  what helps: {row.help}" if row.help else ""))
    return 0


def demo(argv: list[str]) -> int:
    from . import demo as program

    options, rest = getopt.getopt(argv, "", ["backend="])
    if rest:
        raise UsageError("takes no arguments but --backend")
    return program.main(dict(options).get("--backend"))
