"""Trainings on request, in a process of their own, for `ppo_speed.py`.

Needs jax and nothing else, because it also runs where realax is not installed.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.random as jr


NUMBERS: dict[str, Any] = {
    "num_envs": 16,
    "num_steps": 128,
    "num_minibatches": 4,
    "learning_rate": 2.5e-4,
    "ent_coef": 0.01,
}
EPOCHS = 4


def serve(run: Callable[[Any], Any]) -> None:
    """Run `run` with the seed on each line that comes in.

    Prints the seconds that it took, and those of the processor.
    """
    for line in sys.stdin:
        start, processor = time.perf_counter(), time.process_time()
        jax.block_until_ready(run(jr.key(int(line))))
        taken = time.perf_counter() - start, time.process_time() - processor
        print(*taken, flush=True)
