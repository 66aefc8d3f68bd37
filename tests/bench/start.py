"""What a start costs: ours against stock, alternating in blocks of one run. Prints medians, quartiles and the ratio.

    python tests/bench/start.py [--backend B]... [--blocks N] [CASE...]

Cases: small, large (an owner of 2 GiB), threads (8 at once), output (10 MB captured), import, row (1,000 in a row).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from blocks import alternate, ratio, spread

import pyjob

GIB = 1 << 30
PROGRAM = ["/bin/true"]
BOUNDS = {"cgroup": 1.05, "reaper": 1.5, "process-group": 1.05}

Start = Callable[..., Any]


def starters(backend: str) -> dict[str, tuple[Start, Start]]:
    def popen(*args: Any, **kwargs: Any) -> Any:
        return pyjob.Popen(*args, backend=backend, **kwargs)

    def run(*args: Any, **kwargs: Any) -> Any:
        return pyjob.run(*args, backend=backend, **kwargs)

    return {"stock": (subprocess.Popen, subprocess.run), "ours": (popen, run)}


def one_by_one(popen: Start, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        popen(PROGRAM).wait()
    return (time.perf_counter() - begin) / count


def eight_threads(popen: Start, count: int) -> float:
    threads = [threading.Thread(target=one_by_one, args=(popen, count // 8)) for _ in range(8)]
    begin = time.perf_counter()
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return (time.perf_counter() - begin) / count


def captured(run: Start, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        assert len(run(["head", "-c", "10000000", "/dev/zero"], capture_output=True).stdout) == 10_000_000
    return (time.perf_counter() - begin) / count


def grown(popen: Start, count: int) -> float:
    """From an owner of 2 GiB, every page of it touched."""
    ballast = bytearray(2 * GIB)
    for page in range(0, len(ballast), 4096):
        ballast[page] = 1
    return one_by_one(popen, count)


def importing(module: str, count: int) -> float:
    """From outside of the checkout, whose pyjob has no extension."""
    code = f"import time; begin = time.perf_counter(); import {module}; print(time.perf_counter() - begin)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=os.path.sep).stdout)
        for _ in range(count)
    ]
    return statistics.median(times)


def tell(case: str, backend: str, stock: list[float], ours: list[float], bound: float | None) -> dict[str, Any]:
    def text(values: list[float]) -> str:
        low, middle, high = spread(values).times(1e6)
        return f"{middle:9.0f} µs ({low:.0f} to {high:.0f})"

    found = ratio(ours, stock)
    limit = f", bound {bound}" if bound else ""
    print(f"{case:8} {backend:14} stock {text(stock)}  ours {text(ours)}  ratio {found.middle:.3f}{limit}", flush=True)
    return {"case": case, "backend": backend, "stock": stock, "ours": ours, "ratio": found.middle, "bound": bound}


def row(backend: str) -> dict[str, Any]:
    """1,000 starts: memory and descriptors before and after."""
    popen = starters(backend)["ours"][0]
    one_by_one(popen, 100)
    gc.collect()

    def state() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = state()
    one_by_one(popen, 1000)
    gc.collect()
    after = state()
    print(
        f"row      {backend:14} descriptors {before[0]} -> {after[0]}, KiB at most {before[1]} -> {after[1]}",
        flush=True,
    )
    return {"case": "row", "backend": backend, "descriptors": [before[0], after[0]], "memory": [before[1], after[1]]}


def measure(backend: str, cases: list[str], blocks: int) -> list[dict[str, Any]]:
    both = starters(backend)
    (stock_popen, stock_run), (our_popen, our_run) = both["stock"], both["ours"]
    results = []
    if "small" in cases:
        times = alternate(blocks, lambda: one_by_one(stock_popen, 40), lambda: one_by_one(our_popen, 40))
        results.append(tell("small", backend, *times, BOUNDS.get(backend)))
    if "threads" in cases:
        times = alternate(blocks, lambda: eight_threads(stock_popen, 80), lambda: eight_threads(our_popen, 80))
        results.append(tell("threads", backend, *times, BOUNDS.get(backend)))
    if "output" in cases:
        times = alternate(blocks, lambda: captured(stock_run, 3), lambda: captured(our_run, 3))
        results.append(tell("output", backend, *times, None))
    if "row" in cases:
        results.append(row(backend))
    if "large" in cases:
        stock, ours, small = alternate(
            blocks,
            lambda: grown(stock_popen, 20),
            lambda: grown(our_popen, 20),
            lambda: one_by_one(our_popen, 20),
        )
        results.append(tell("large", backend, stock, ours, BOUNDS.get(backend)))
        results[-1]["small"] = small
        print(f"large    {backend:14} ours with 2 GiB / ours without: {ratio(ours, small).middle:.3f}", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", action="append")
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--json", help="write the results there")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    cases = options.cases or ["small", "threads", "output", "row", "large", "import"]
    results: list[dict[str, Any]] = []
    if "import" in cases:
        times = alternate(options.blocks, lambda: importing("subprocess", 3), lambda: importing("pyjob", 3))
        results.append(tell("import", "", *times, 1.2))
    for backend in options.backend or [one.name for one in pyjob.backends() if one.available]:
        results += measure(backend, cases, options.blocks)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
