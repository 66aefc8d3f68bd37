"""What a checker must refuse: each of these lines is an error, and test_types.py counts them; never run."""

from __future__ import annotations

import pyjob

pyjob.Popen(["x"], text=True, unknown=1)  # refused
pyjob.Popen(["x"], job="name")  # refused
pyjob.Popen(1)  # refused
pyjob.run(["x"], timeout="1")  # refused
pyjob.check_output(["x"], stdout=1)  # refused
pyjob.call(["x"], capture_output=True)  # refused
pyjob.Job(limits=1)  # refused
pyjob.Job("name", True)  # refused
pyjob.Job().popen(["x"], -1)  # refused
pyjob.Job().run(["x"], timeout="1")  # refused
pyjob.Job().kill("1")  # refused
pyjob.kill_tree("1")  # refused
pyjob.ProcessHandle("1")  # refused
pyjob.Job().name = "other"  # refused
pyjob.Job().closed = True  # refused
