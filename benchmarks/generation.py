"""Compare `EvosaxTrainer` with a `lax.scan` over evosax's ask and tell, by hand.

Both minimise Rastrigin's function with the same algorithm, parameters, start and keys,
and are compiled as whole runs that keep nothing. They alternate; the medians and their
ratio are printed. Before, both are checked to end at the same numbers. SNES keeps its
first deviation (`lr_std_init` 0), because a converged one divides by zero in both. The
hand-written loop has no guard against bad numbers and no repetitions, and its best
individual is the one that evosax keeps; the trainer keeps its own in addition.

The result for small loops depends on which of them XLA splits over the cores, at
thresholds. `taskset -c 0 python benchmarks/generation.py` compares without splitting.
"""

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from _timing import alternate
from evosax.algorithms import algorithms

import realax as rx


ROUNDS = 15
# dims, popsize, generations
CASES = [(2, 32, 20_000), (2, 1024, 3000), (100, 32, 5000), (100, 1024, 300)]


def rastrigin(x: Any, key: Any, data: Any = None) -> Any:
    return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10), None


def by_hand(name: str, dims: int, popsize: int, steps: int) -> Callable[[Any], Any]:
    kws: dict[str, Any] = {}
    if name == "Open_ES":
        kws["optimizer"] = optax.adam(0.05)
        kws["std_schedule"] = optax.constant_schedule(0.1)
    algorithm = algorithms[name](popsize, jnp.zeros(dims), **kws)
    params = algorithm.default_params
    if name == "SNES":
        params = params.replace(lr_std_init=jnp.zeros(()))

    @jax.jit
    def run(state: Any, key: Any) -> Any:
        def step(state: Any, i: Any) -> Any:
            ask_key, eval_key, tell_key = jr.split(jr.fold_in(key, i), 3)
            population, state = algorithm.ask(ask_key, state, params)
            keys = jr.split(eval_key, popsize)
            fitness, _ = jax.vmap(rastrigin)(population, keys)
            state, _ = algorithm.tell(tell_key, population, fitness, state, params)
            return state, None

        return jax.lax.scan(step, state, jnp.arange(steps))[0]

    state = algorithm.init(jr.key(0), jnp.ones(dims), params)
    return lambda key: run(state, key)


def trained(name: str, dims: int, popsize: int, steps: int) -> Callable[[Any], Any]:
    snes = name == "SNES"
    trainer = rx.EvosaxTrainer(
        *(steps, name, rastrigin, jnp.ones(dims)),
        popsize=popsize,
        es_kws={} if snes else {"optimizer": "adam", "learning_rate": 0.05, "std": 0.1},
        es_params={"lr_std_init": 0.0} if snes else None,
    )
    state = trainer.initialize(jr.key(0))
    return lambda key: trainer.train_(state, key)


def main() -> None:
    print(f"jax {jax.__version__}, evosax {version('evosax')}, {jax.devices()[0]}\n")
    print("| algorithm, dims, popsize | by hand, us a generation | trainer | ratio |")
    print("| --- | --- | --- | --- |")
    for name in sys.argv[1:] or ("SNES", "Open_ES"):
        for dims, popsize, steps in CASES:
            case = name, dims, popsize, steps
            runs = by_hand(*case), trained(*case)
            hand, ours = (run(jr.key(0)) for run in runs)
            np.testing.assert_allclose(ours.es_state.mean, hand.mean, rtol=1e-5)
            first, second, ratio = alternate(runs, ROUNDS, steps)
            numbers = f"{first * 1e6:.1f} | {second * 1e6:.1f} | {ratio:.3f}"
            print(f"| {name}, {dims}, {popsize} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
