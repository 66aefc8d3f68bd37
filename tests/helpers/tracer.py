"""A program that traces another (as `strace -p` does): whom it traces waits for it in every system call."""

from __future__ import annotations

import subprocess
import sys

from .procs import Identity

TRACER = """
import ctypes, os, signal, sys
SEIZE, INTERRUPT, SYSCALL, WALL = 0x4206, 0x4207, 24, 0x40000000
GOOD = 1  # PTRACE_O_TRACESYSGOOD, as strace has it: without, the death of the tracer can be a SIGTRAP for us
signal.alarm(60)
libc = ctypes.CDLL(None)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
traced = int(sys.argv[1]) or os.getppid()
if libc.ptrace(SEIZE, traced, None, GOOD) or libc.ptrace(INTERRUPT, traced, None, None):
    sys.exit(77)
while True:
    status = os.waitpid(traced, WALL)[1]
    sig = os.WSTOPSIG(status) if os.WIFSTOPPED(status) and status >> 16 == 0 else 0
    libc.ptrace(SYSCALL, traced, None, 0 if sig & 0x7F == signal.SIGTRAP else sig)
"""

PRELUDE = """
import ctypes, os, subprocess, sys, time
sys.path[:0] = {path!r}
import pyjob
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER, any: where Yama asks for it
tracer = [sys.executable, "-S", "-c", {tracer!r}]

def tracer_of(who):
    return int(open(f"/proc/{{who}}/status").read().split("TracerPid:")[1].split()[0])

def traced(process, who):
    while not tracer_of(who):
        assert process.poll() is None, "may not trace"
        time.sleep(0.01)
    print(tracer_of(who), flush=True)
    sys.stdin.readline()  # until it was looked at: what comes next may end it
"""


def traced(body: str, seconds: float = 20) -> tuple[str, Identity]:
    """Runs Python code that starts `tracer` with a PID (0: its parent) and calls traced(process, pid) when it is there.
    What the code prints after that, and the tracer; that is ended here if it was not by then."""
    script = PRELUDE.format(path=sys.path, tracer=TRACER) + body
    caller = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert caller.stdin and caller.stdout
    tracer = None
    try:
        tracer = Identity.of(int(caller.stdout.readline()))
        caller.stdin.write(b"\n")
        return caller.communicate(timeout=seconds)[0].decode().strip(), tracer
    except BaseException:
        if tracer:
            tracer.end()
        raise
    finally:
        caller.kill()
        caller.wait()
        caller.stdin.close()
        caller.stdout.close()
