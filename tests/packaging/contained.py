"""Run by the tests with one interpreter after the other: pyjob does its work on every backend there is."""

import os
import sys

import pyjob

place = os.path.dirname(os.path.abspath(pyjob.__file__))
assert os.path.realpath(place) == os.path.realpath(sys.argv[1]), place
sleeper = [sys.executable, "-S", "-c", "import time; print('ready', flush=True); time.sleep(100)"]
worked = []
for info in pyjob.backends():
    if not info.available:
        continue
    with pyjob.Job(backend=info.name) as job:
        program = job.popen(sleeper, stdout=-1, text=True)
        assert program.stdout.readline() == "ready\n"
        assert program.pid in job
        assert job.pids() == [program.pid]
        job.kill()
        assert program.wait(20) == (-9 if os.name == "posix" else 1), program.returncode
        program.stdout.close()
        done = job.run([sys.executable, "-S", "-c", "print('done')"], capture_output=True, text=True, timeout=60)
        assert done.stdout == "done\n"
        assert done.returncode == 0
    worked.append(info.name)
assert worked
print(sys.version_info[:2], *worked)
