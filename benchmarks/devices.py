"""What a second device gives: two CPU devices against one, on brax's hopper.

A population of 64, each playing one episode of at most 300 steps, evolved by Open_ES
from the same state, in lanes and as the masked scan; in alternation in one process that
has two CPU devices. Prints the medians and their ratio. Takes about three minutes.

With jax 0.11.2 and its default partitioner, the compiler crashes on brax in lanes on
several CPU devices: run it with `JAX_USE_SHARDY_PARTITIONER=0` in the environment.
"""

import contextlib
import io
import statistics
import time
import warnings
from importlib.metadata import version
from typing import Any

import jax
import jax.random as jr

import realax as rx


ROUNDS, GENERATIONS, POPSIZE, HORIZON = 7, 5, 64, 300
CASES = {"masked scan": 0, "lanes": None}


def make(n_devices: int, lanes: int | None) -> Any:
    task = rx.BraxTask("hopper", HORIZON, backend="spring", lanes=lanes)
    policy = rx.MLPPolicy(*task.space[:2], width=32, depth=2, key=jr.key(0))
    trainer = rx.EvosaxTrainer(
        GENERATIONS, "Open_ES", task, policy, popsize=POPSIZE, n_devices=n_devices
    )
    state = trainer.initialize(jr.key(0))
    return lambda key: trainer.train_(state, key)


def main() -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    print(f"jax {jax.__version__}, brax {version('brax')}, {jax.devices()}\n")
    print("| rollouts | one device, ms a generation | two devices | times as fast |")
    print("| --- | --- | --- | --- |", flush=True)
    for name, lanes in CASES.items():
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of brax on import
            runs = [make(1, lanes), make(2, lanes)]
        times: list[list[float]] = [[], []]
        for round in range(ROUNDS + 1):
            for run, taken in zip(runs, times, strict=True):
                start = time.perf_counter()
                jax.block_until_ready(run(jr.key(round)))
                if round > 0:
                    taken.append((time.perf_counter() - start) / GENERATIONS * 1e3)
        one, two = map(statistics.median, times)
        ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
        print(f"| {name} | {one:.0f} | {two:.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
