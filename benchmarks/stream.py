"""Compare `fit_stream` with a loop over batches, written by hand.

Both have the same model, loss, optimiser and batches of numpy arrays. By hand, each
step is a call of a jitted function. Steps take about 0.2 to 5 ms, and the source of one
case takes time as well. Runs alternate; the medians and their ratio are printed. Takes
about two minutes.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from _timing import alternate

import realax as rx


ROUNDS = 11
# width, batch, steps, seconds that the source waits for a batch
CASES = [
    (32, 256, 3000, 0.0),
    (64, 2048, 1000, 0.0),
    (128, 2048, 300, 0.0),
    (128, 2048, 300, 0.004),
]


def loss(model: eqx.nn.MLP, key: Any, data: Any) -> Any:
    x, y = data
    return jnp.mean((jax.vmap(model)(x)[:, 0] - y) ** 2), None


def batches(size: int, steps: int, wait: float) -> Iterator[Any]:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(8, size, 16)).astype(np.float32)
    for i in range(steps):
        if wait:
            time.sleep(wait)
        yield x[i % 8], np.sin(x[i % 8, :, 0])


def by_hand(
    model: eqx.nn.MLP, size: int, steps: int, wait: float
) -> Callable[[Any], Any]:
    optimizer = optax.adamw(1e-3)
    arrays, static = eqx.partition(model, eqx.is_inexact_array)

    @jax.jit
    def step(arrays: Any, state: Any, key: Any, batch: Any) -> Any:
        def value(arrays: Any) -> Any:
            return loss(eqx.combine(arrays, static), key, batch)[0]

        cost, gradient = jax.value_and_grad(value)(arrays)
        updates, state = optimizer.update(gradient, state, arrays)
        return optax.apply_updates(arrays, updates), state, cost

    def run(key: Any) -> Any:
        now, state, costs = arrays, optimizer.init(arrays), list[Any]()
        for batch in batches(size, steps, wait):
            now, state, cost = step(now, state, key, batch)
            costs.append(cost)
        return now, np.stack(costs)

    return run


def main() -> None:
    print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0]}\n")
    print("| width, batch, source | by hand, us a step | fit_stream | ratio |")
    print("| --- | --- | --- | --- |", flush=True)
    for width, size, steps, wait in CASES:
        model = eqx.nn.MLP(16, 1, width, 2, key=jr.key(0))
        trainer = rx.OptaxTrainer(steps, "adamw", lambda key, m=model: m, loss)
        state = trainer.initialize(jr.key(0))

        def stream(
            key: Any, t: Any = trainer, s: Any = state, n: Any = (size, steps, wait)
        ) -> Any:
            return t.train_stream(s, key, batches(*n))

        hand, ours, ratio = alternate(
            (by_hand(model, size, steps, wait), stream), ROUNDS, steps
        )
        case = f"{width}, {size}, {wait * 1e3:.0f} ms"
        times = f"{hand * 1e6:.0f} | {ours * 1e6:.0f}"
        print(f"| {case} | {times} | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    main()
