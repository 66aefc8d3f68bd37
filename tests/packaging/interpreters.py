"""Run by the tests with one Python after the other: two sub-interpreters, each with a pyjob of its own."""

import sys
import threading
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]
from helpers import interpreters  # noqa: E402

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
failures = []


def work(number):
    """Twice in each: what the first time made is there the second time."""
    failures.extend(interpreters.run(number, WORK) for _ in range(2))


numbers = [interpreters.create(own_gil=sys.argv[1] == "own") for _ in range(2)]
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
failed = [one for one in failures if one]
print(*failed, sep="\n")
sys.exit(bool(failed))
