"""Compare `OptaxTrainer` with a `lax.scan` over optax's updates, written by hand.

Both have the same model, loss, optimiser and keys, and are compiled as whole runs. They
alternate; the medians and their ratio are printed. The hand-written loop has no guard
against bad numbers, and keeps no best parameters and no norm of the gradient.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from _timing import alternate

import realax as rx


ROUNDS = 21
# width, batch, steps: some 0.3 s, beside which the millisecond of a call is nothing.
CASES = [
    (32, 512, 3000),
    (64, 1024, 1000),
    (128, 256, 1500),
    (128, 1024, 500),
    (256, 64, 1500),
]


def make_loss(batch: int) -> Callable[..., Any]:
    def loss(model: eqx.nn.MLP, key: Any, data: Any = None) -> Any:
        x = jr.normal(key, (batch, 16))
        outputs = jax.vmap(model)(x)[:, 0]
        return jnp.mean((outputs - jnp.sin(x).sum(-1)) ** 2), None

    return loss


def by_hand(model: eqx.nn.MLP, loss: Callable[..., Any], steps: int) -> Any:
    optimizer = optax.adamw(1e-3)
    arrays, static = eqx.partition(model, eqx.is_inexact_array)

    @jax.jit
    def run(arrays: Any, key: Any) -> Any:
        def value(arrays: Any, key: Any) -> Any:
            return loss(eqx.combine(arrays, static), key)[0]

        def step(carry: Any, i: Any) -> Any:
            arrays, state = carry
            cost, gradient = jax.value_and_grad(value)(arrays, jr.fold_in(key, i))
            updates, state = optimizer.update(gradient, state, arrays)
            return (optax.apply_updates(arrays, updates), state), cost

        start = arrays, optimizer.init(arrays)
        return jax.lax.scan(step, start, jnp.arange(steps))

    return lambda key: run(arrays, key)


def main() -> None:
    print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0]}\n")
    print("| width, batch | by hand, us a step | OptaxTrainer | ratio |")
    print("| --- | --- | --- | --- |")
    for width, batch, steps in CASES:
        model = eqx.nn.MLP(16, 1, width, 2, key=jr.key(0))
        loss = make_loss(batch)
        trainer = rx.OptaxTrainer(steps, "adamw", lambda key, m=model: m, loss)
        state = trainer.initialize(jr.key(0))
        runs = (
            by_hand(model, loss, steps),
            lambda key, t=trainer, s=state: t.train(s, key),
        )
        hand, ours, ratio = alternate(runs, ROUNDS, steps)
        print(
            f"| {width}, {batch} | {hand * 1e6:.0f} | {ours * 1e6:.0f} | {ratio:.3f} |"
        )


if __name__ == "__main__":
    main()
