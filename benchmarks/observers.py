"""Measure the cost of a logger, a progress bar and a checkpointer on a run.

Compares short steps and steps of about 1 ms with and without observers, and a state of
10 MB that is saved once a second. Runs alternate in one process; the medians and their
difference for a step are printed.
"""

import contextlib
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr

import realax as rx


ROUNDS = 7


def cheap(x: Any, key: Any, data: Any = None) -> Any:
    return jnp.sum(x**2), None


def heavy(x: Any, key: Any, data: Any = None) -> Any:
    def body(_: Any, y: Any) -> Any:
        return jnp.tanh(y @ y) + 0.1

    y = jax.lax.fori_loop(0, 24, body, jnp.full((64, 64), x[0]))
    return jnp.sum(x**2) + 0.0 * y[0, 0], None


def callbacks(folder: str, every: int) -> Any:
    folder = tempfile.mkdtemp(dir=folder)
    return (
        rx.Checkpointer(pathlib.Path(folder) / "c", every=every),
        rx.Logger(log_file=pathlib.Path(folder) / "log.jsonl"),
        rx.ProgressBar(),
    )


def compare(name: str, steps: int, make: Callable[[Any], Any], folder: str) -> None:
    every = max(1, steps // 4)  # about one a second
    times: list[list[float]] = [[], []]
    for round in range(ROUNDS + 1):
        for watched, taken in enumerate(times):
            trainer = make(callbacks(folder, every) if watched else ())
            with open(os.devnull, "w") as null, contextlib.redirect_stderr(null):
                start = time.perf_counter()
                jax.block_until_ready(trainer.init_and_train_(jr.key(0)))
            if round > 0:
                taken.append((time.perf_counter() - start) / steps * 1e6)
    bare, seen = map(statistics.median, times)
    more = statistics.median(b - a for a, b in zip(*times, strict=True))
    ratio = statistics.median(b / a for a, b in zip(*times, strict=True))
    print(f"| {name} | {bare:.1f} | {seen:.1f} | {more:+.1f} us | {ratio:.3f} |")


def main() -> None:
    print(f"jax {jax.__version__}, {jax.devices()[0]}\n")
    print("| steps | bare, us a step | watched | difference | ratio |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:

        def evolution(task: Any, steps: int, popsize: int) -> Callable[[Any], Any]:
            return lambda callbacks: rx.EvosaxTrainer(
                steps, "SNES", task, jnp.ones(2), popsize=popsize, callbacks=callbacks
            )

        def large(callbacks: Any) -> Any:
            return rx.OptaxTrainer(
                1000,
                "sgd",
                lambda key: jnp.ones(1_250_000),
                lambda x, key, data: (jnp.sum(jnp.sin(x) ** 2), None),
                callbacks=callbacks,
            )

        compare("short", 100_000, evolution(cheap, 100_000, 8), folder)
        compare("of a millisecond", 3000, evolution(heavy, 3000, 4), folder)
        compare("with a state of 10 MB", 1000, large, folder)


if __name__ == "__main__":
    main()
