"""Fair measuring: contenders take turns in blocks of one run, and are compared within a block.

What the machine does meanwhile hits neighbours in time alike; so a ratio is the median of the ratios of all blocks, not
the ratio of two medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

Measure = Callable[[], float]


class Spread(NamedTuple):
    """The median with both quartiles."""

    low: float
    middle: float
    high: float

    def times(self, factor: float) -> Spread:
        return Spread(*(factor * one for one in self))


def spread(values: Sequence[float]) -> Spread:
    return Spread(*statistics.quantiles(values, n=4, method="inclusive")) if len(values) > 1 else Spread(*values * 3)


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Of two contenders in one run, block by block."""
    return spread([one / other for one, other in zip(above, below, strict=True)])


def alternate(blocks: int, *contenders: Measure) -> list[list[float]]:
    """What each contender measured in each block. A round before the first is not counted.

    Every block begins with another one."""
    found: list[list[float]] = [[] for _ in contenders]
    for measure in contenders:
        measure()
    for block in range(blocks):
        for turn in range(len(contenders)):
            which = (block + turn) % len(contenders)
            found[which].append(contenders[which]())
    return found


def repeated(call: Callable[[], object], seconds: float = 0.005, batch: int = 1) -> Measure:
    """Measures the seconds of one call, by calling for at least `seconds`, and looking at the clock every `batch`."""

    def measure() -> float:
        count = 0
        begin = now = time.perf_counter()
        while now - begin < seconds:
            for _ in range(batch):
                call()
            count += batch
            now = time.perf_counter()
        return (now - begin) / count

    return measure
