"""Every operation of a Job but close(), as a call that a closed one must refuse."""

import os

OPERATIONS = {
    "pids": lambda job: job.pids(),
    "members": lambda job: list(job.members()),
    "contains": lambda job: os.getpid() in job,
    "send_signal": lambda job: job.send_signal(15),
    "stop": lambda job: job.stop(0),
    "kill": lambda job: job.kill(),
    "wait": lambda job: job.wait(0),
    "release": lambda job: job.release(),
    "popen": lambda job: job.popen(["anything"]),
    "run": lambda job: job.run(["anything"]),
    "assign": lambda job: job.assign(os.getppid() or 1),
    "assign_self": lambda job: job.assign_self(),
}
