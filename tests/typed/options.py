"""The keywords of `evolve` and `optimize`: completed, checked, and by `use_scan`."""

# An `ignore` without a mistake is an error: so each of those below is one.
# pyright: reportUnnecessaryTypeIgnoreComment=error

from typing import Any, assert_type

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

import realax as rx


def bowl(params: Array, key: Any, data: Any = None) -> tuple[Array, None]:
    del key, data
    return (params**2).sum(), None


start: Array = jnp.ones(2)
key = jr.key(0)

params, state, data = rx.evolve(start, bowl, key, strategy="SNES", steps=2, popsize=4)
assert_type(params, Array)
assert_type(state, rx.ESState[Array])
assert_type(data, rx.Record[rx.ESMetrics])
evolved = rx.evolve(start, bowl, key, use_scan=False, steps=2.0, callbacks=None)
assert_type(evolved, tuple[Array, rx.ESState[Array]])
kept = rx.evolve(start, bowl, key, use_scan=True, steps=2, compiler_options={})
assert_type(kept, tuple[Array, rx.ESState[Array], rx.Record[rx.ESMetrics]])

optimized = rx.optimize(start, bowl, key, optimizer="sgd", learning_rate=0.1, steps=2)
assert_type(optimized, tuple[Array, rx.GradState[Array], rx.Record[rx.GradMetrics]])
trained = rx.optimize(start, bowl, key, use_scan=False, steps=2, data=None)
assert_type(trained, tuple[Array, rx.GradState[Array]])


def wrong() -> None:
    """Mistakes that a type checker finds."""
    rx.evolve(start, bowl, key, popsise=4)  # pyright: ignore[reportCallIssue]
    rx.evolve(start, bowl, key, popsize="4")  # pyright: ignore[reportArgumentType]
    rx.optimize(start, bowl, key, learn_rate=0.1)  # pyright: ignore[reportCallIssue]
    rx.optimize(start, bowl, key, logger="runs")  # pyright: ignore[reportArgumentType]
