"""Compare brax with and without the compiler options that its task asks for.

Evolves populations by Open_ES from the same state, in alternation, and prints the
medians of a generation and their ratio. Takes about six minutes. Names as arguments
choose environments.
"""

import contextlib
import io
import sys
import warnings
from importlib.metadata import version
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
from _timing import alternate

import realax as rx


ROUNDS = 7
# environment, backend, width of the policy, horizon, generations
CASES = [
    ("inverted_pendulum", "spring", 32, 300, 20),
    ("hopper", "spring", 32, 300, 12),
    ("hopper", "spring", 256, 300, 6),
    ("hopper", "positional", 32, 100, 6),
    ("walker2d", "spring", 32, 300, 6),
    ("ant", "spring", 32, 200, 3),
]
POPSIZE = 64


class AsItIs(rx.AbstractTask[Any]):
    """A `BraxTask` without its compiler options."""

    task: rx.BraxTask[Any]
    maximize: bool = eqx.field(static=True, default=True)

    def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
        return self.task(params, key, data)

    def evaluate(self, population: Any, keys: Any, data: Any = None) -> Any:
        return self.task.evaluate(population, keys, data)


def make(task: Any, policy: Any, generations: int) -> Any:
    trainer = rx.EvosaxTrainer(
        generations, "Open_ES", task, policy, popsize=POPSIZE, eval_reps=1
    )
    state = trainer.initialize(jr.key(0))
    return lambda key: trainer.train_(state, key)


def main() -> None:
    print(f"jax {jax.__version__}, brax {version('brax')}, {jax.devices()[0]}\n")
    print("| environment, backend, width | without options, ms | with | ratio |")
    print("| --- | --- | --- | --- |", flush=True)
    for env, backend, width, horizon, generations in CASES:
        if sys.argv[1:] and env not in sys.argv[1:]:
            continue
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of brax on import
            task = rx.BraxTask(env, horizon, backend=backend)
            policy = rx.MLPPolicy(*task.space[:2], width, 2, key=jr.key(0))
            runs = tuple(make(t, policy, generations) for t in (AsItIs(task), task))
        first, second, ratio = alternate(runs, ROUNDS, generations)
        numbers = f"{first * 1e3:.1f} | {second * 1e3:.1f} | {ratio:.2f}"
        print(f"| {env}, {backend}, {width} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
