"""Compare two CPU devices with one: the gain of a second device, and its cost.

The first table is of Rastrigin's function, whose evaluation costs nothing, so that the
difference is the communication between devices. The second is of brax, in lanes and as
the masked scan, evolved by Open_ES from the same state. All runs alternate in one
process with two CPU devices. Prints the medians of a generation and their ratio. Takes
about seven minutes. Names as arguments choose environments; "function" chooses the
first table.
"""

import contextlib
import io
import sys
import warnings
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from _timing import alternate

import realax as rx


ROUNDS = 7
# environment, popsize, repetitions, horizon, lanes, generations
CASES: list[tuple[str, int, int, int, int | None, int]] = [
    ("hopper", 64, 1, 300, 0, 12),
    ("hopper", 64, 1, 300, None, 12),
    ("hopper", 128, 4, 1000, None, 3),
    ("hopper", 256, 4, 300, None, 3),
    ("walker2d", 128, 4, 1000, None, 3),
    ("ant", 128, 2, 300, None, 3),
]

# algorithm, popsize, dims, generations
FUNCTIONS = [
    ("Open_ES", 32, 100, 2000),
    ("SNES", 32, 100, 2000),
    ("CMA_ES", 32, 100, 500),
    ("Open_ES", 256, 1000, 200),
]


def rastrigin(x: Any, key: Any, data: Any = None) -> Any:
    del key, data
    return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10), None


def make_function(
    n_devices: int, name: str, pop: int, dims: int, generations: int
) -> Any:
    trainer = rx.EvosaxTrainer(
        generations, name, rastrigin, jnp.ones(dims), None, pop, 1, n_devices
    )
    state = trainer.initialize(jr.key(0))
    return lambda key: trainer.train_(state, key)


def print_functions() -> None:
    print("| algorithm, popsize x dims | one device, us | two | ratio |")
    print("| --- | --- | --- | --- |", flush=True)
    for name, pop, dims, generations in FUNCTIONS:
        case = name, pop, dims, generations
        runs = make_function(1, *case), make_function(2, *case)
        one, two, ratio = alternate(runs, ROUNDS, generations)
        row = f"{one * 1e6:.0f} | {two * 1e6:.0f} | {ratio:.2f}"
        print(f"| {name}, {pop}x{dims} | {row} |", flush=True)
    print()


def make(
    n_devices: int,
    env: str,
    pop: int,
    reps: int,
    horizon: int,
    lanes: int | None,
    generations: int,
) -> Any:
    task = rx.BraxTask(env, horizon, backend="spring", lanes=lanes)
    policy = rx.MLPPolicy(*task.space[:2], width=32, depth=2, key=jr.key(0))
    trainer = rx.EvosaxTrainer(
        generations, "Open_ES", task, policy, None, pop, reps, n_devices
    )
    state = trainer.initialize(jr.key(0))
    return lambda key: trainer.train_(state, key)


def main() -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    print(f"jax {jax.__version__}, brax {version('brax')}, {jax.devices()}\n")
    if not sys.argv[1:] or "function" in sys.argv[1:]:
        print_functions()
    if sys.argv[1:] == ["function"]:
        return
    print("| environment, episodes, horizon | one device, ms | two | times as fast |")
    print("| --- | --- | --- | --- |", flush=True)
    for env, pop, reps, horizon, lanes, generations in CASES:
        if sys.argv[1:] and env not in sys.argv[1:]:
            continue
        case = env, pop, reps, horizon, lanes, generations
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of brax on import
            runs = make(1, *case), make(2, *case)
        one, two, ratio = alternate(runs, ROUNDS, generations)
        how = "masked scan" if lanes == 0 else "lanes"
        name = f"{env}, {pop}x{reps}, {horizon}, {how}"
        print(
            f"| {name} | {one * 1e3:.0f} | {two * 1e3:.0f} | {1 / ratio:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
