"""Timing of two alternatives, shared by the scripts."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.random as jr


def alternate(
    runs: tuple[Callable[[Any], Any], Callable[[Any], Any]], rounds: int, steps: int
) -> tuple[float, float, float]:
    """Time two runs in alternation, and return the median seconds of a step of each.

    **Arguments:**

    - `runs`: two functions of a key; each call is `steps` steps.
    - `rounds`: how often each is timed, after one call that compiles it.

    **Returns:** Both medians, and the median ratio of the second to the first.
    """
    times: tuple[list[float], list[float]] = [], []
    for round in range(rounds + 1):
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(run(jr.key(round)))
            if round > 0:
                taken.append((time.perf_counter() - start) / steps)
    first, second = map(statistics.median, times)
    return first, second, statistics.median(b / a for a, b in zip(*times, strict=True))
