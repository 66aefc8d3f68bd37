"""Looks at the workflow files without GitHub: they parse, their jobs need what exists, every action is pinned by
commit."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).resolve().parent.parent


def complaints(path: Path) -> list[str]:
    content = yaml.safe_load(path.read_text())
    found = []
    # YAML 1.1 reads the key `on` as true.
    for key in ("name", True, "permissions", "jobs"):
        if key not in content:
            found.append(f"no {'on' if key is True else key}")
    jobs = content.get("jobs", {})
    for name, job in jobs.items():
        for needed in [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", []):
            if needed not in jobs:
                found.append(f"{name} needs {needed}, which is not there")
        if "uses" in job:
            if not (CHECKOUT / job["uses"]).exists():
                found.append(f"{name} uses {job['uses']}, which is not there")
            continue
        if "timeout-minutes" not in job:
            found.append(f"{name} has no timeout")
        for step in job.get("steps", []):
            if ("uses" in step) == ("run" in step):
                found.append(f"{name}: a step either uses or runs: {step}")
            if "uses" in step and not re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", step["uses"]):
                found.append(f"{name}: {step['uses']} is not pinned by commit")
    return [f"{path.name}: {one}" for one in found]


def main() -> int:
    files = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))
    found = [one for path in files for one in complaints(path)]
    for one in found:
        print(one)
    print(f"{len(files)} workflows, {len(found)} complaints")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main())
