"""Run by the tests with one interpreter after the other: two sub-interpreters, each with a pyjob of its own."""

import sys
import threading

try:
    import _interpreters as interpreters  # Python 3.13
except ImportError:
    import _xxsubinterpreters as interpreters

WORK = """
import subprocess, sys
import pyjob
with pyjob.Job() as job:
    programs = [job.popen([sys.executable, "-S", "-c", "import time; time.sleep(100)"]) for _ in range(3)]
    assert job.pids() == sorted(one.pid for one in programs)
    job.kill()
    assert [one.wait(30) for one in programs] == [-9] * 3
done = pyjob.run([sys.executable, "-S", "-c", "print('done')"], stdout=subprocess.PIPE)
assert done.stdout == b"done\\n"
"""
failed = []


def work(number):
    """Twice in each: what the first time made is there the second time."""
    for _ in range(2):
        try:
            failure = interpreters.run_string(number, WORK)
        except Exception as error:
            failure = error
        if failure is not None:
            failed.append(failure)


own = sys.argv[1] == "own"  # a GIL of their own, since Python 3.12
if sys.version_info >= (3, 13):
    numbers = [interpreters.create("isolated" if own else "legacy") for _ in range(2)]
else:
    numbers = [interpreters.create(isolated=own) for _ in range(2)]

if sys.argv[2] == "at once":
    threads = [threading.Thread(target=work, args=(number,)) for number in numbers]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
else:
    for number in numbers * 2:
        work(number)
for number in numbers:
    interpreters.destroy(number)
for failure in failed:
    print(getattr(failure, "formatted", None) or failure)
sys.exit(1 if failed else 0)
