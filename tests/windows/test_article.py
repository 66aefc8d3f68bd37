"""The article's listing, line by line, against the native module on Windows.

CreateJobObject                          _native.Job.create()
AssignProcessToJobObject(job, self)      job.assign_self()
… a library starts children …            subprocess, which knows nothing of jobs
QueryInformationJobObject(pid list)      job.pids()
OpenProcess(pid)                         _native.Process(pid)
IsProcessInJob(handle, job)              job.contains(process)
TerminateProcess(handle)                 process.send_signal(SIGTERM)
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from helpers.procs import DEADLINE
from helpers.tree import chain

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="the article's listing is for Windows")

LISTING = """
    import json, os, signal, subprocess, sys, time
    from pyjob import _native

    job = _native.Job.create("job-object", None, None, False, "")
    job.assign_self()

    library = [subprocess.Popen(argv, stdin=subprocess.DEVNULL) for argv in json.loads(sys.argv[1])]
    while not all(os.path.exists(report) for report in json.loads(sys.argv[2])):
        time.sleep(0.01)

    members = job.pids()
    ended, outside = [], []
    for pid in members:
        if pid == os.getpid():
            continue
        process = _native.Process(pid)
        if job.contains(process):
            process.send_signal(signal.SIGTERM)
            ended.append(pid)
        else:
            outside.append(pid)
        process.close()

    empty = job.wait(30.0)
    stranger = _native.Process(int(sys.argv[3]))
    print(json.dumps(dict(
        me=os.getpid(), members=members, ended=ended, outside=outside, empty=empty, left=job.pids(),
        codes=[one.wait(30) for one in library], stranger_inside=job.contains(stranger),
    )), flush=True)
    job.close(False, 0.0)
    print("alive after close", flush=True)
"""


def test_the_listing(tree, bystander):
    families = [tree(chain("top", "child", "grandchild")) for _ in range(3)]
    argv = json.dumps([one.argv for one in families])
    reports = json.dumps([str(one.folder / f"{name}.json") for one in families for name in one.names])
    command = [sys.executable, "-c", textwrap.dedent(LISTING), argv, reports, str(bystander.pid)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=4 * DEADLINE)
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    saw = json.loads(first)
    assert saw["me"] in saw["members"]
    assert sorted(saw["ended"]) == sorted(set(saw["members"]) - {saw["me"]})
    assert len(saw["ended"]) == 9
    assert saw["outside"] == []
    assert saw["empty"]
    assert saw["left"] == [saw["me"]]
    assert saw["codes"] == [15, 15, 15]
    assert saw["stranger_inside"] is False
    assert last == "alive after close"
    for family in families:
        family.ready()
        family.assert_dead()
    bystander.assert_alive()
