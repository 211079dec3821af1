"""Compare each algorithm's defaults: evosax's, and realax's where they differ.

Ten numbers are to move from 3 to 1 under a sum of squares (40 at the start), in 300
generations of 32. Prints a table of the value at `trainer.params(state)`, the median of
5 seeds. Takes about four minutes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from evosax.algorithms import algorithms

import realax as rx
from realax.training.evo._algorithm import _LEARNS


def bowl(x: jax.Array, key: Any, data: None = None) -> tuple[jax.Array, None]:
    """The sum of squared distances from 1."""
    return jnp.sum((x - 1) ** 2), None


def outcome(strategy: Any) -> float:
    """Return the median value of the evolved parameters over 5 seeds."""
    trainer = rx.EvosaxTrainer(300, strategy, bowl, jnp.full(10, 3.0), popsize=32)
    states = jax.vmap(trainer.init_and_train_)(jr.split(jr.key(0), 5))
    params = jax.vmap(trainer.params)(states)
    return float(np.median(jnp.sum((params - 1) ** 2, axis=-1)))


def main() -> None:
    print("| algorithm | realax | evosax's defaults |\n| --- | --- | --- |")
    for name, cls in algorithms.items():
        own = ""
        if name in _LEARNS:
            stein = {"num_populations": 4} if name.startswith("SV_") else {}
            size = 32 // stein.get("num_populations", 1)
            instance = cls(population_size=size, solution=jnp.zeros(10), **stein)
            own = f"{outcome(instance):.3g}"
        print(f"| {name} | {outcome(name):.3g} | {own or 'the same'} |", flush=True)


if __name__ == "__main__":
    main()
