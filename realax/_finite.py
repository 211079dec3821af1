"""A traced check that numbers stay finite in a step."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ._types import Tree


def stays_finite(before: Tree, after: Tree) -> Bool[Array, ""]:
    """Return whether each number that is finite in `before` is finite in `after`.

    **Arguments:**

    - `before`, `after`: trees of arrays with the same structure and shapes.

    **Returns:** A traced boolean.
    """
    pairs = [
        (old, new)
        for old, new in zip(*map(jax.tree.leaves, (before, after)), strict=True)
        if jnp.issubdtype(new.dtype, jnp.inexact)
    ]

    def compare() -> Bool[Array, ""]:
        lost = [jnp.any(jnp.isfinite(old) & ~jnp.isfinite(new)) for old, new in pairs]
        return ~jnp.any(jnp.stack([jnp.asarray(False), *lost]))

    # A scalar product is several times faster than a comparison of each number, and it
    # is not finite if one of the numbers is not. Only then does the comparison run.
    # Arrays of one shape share a product, because each product costs a call.
    by_shape = dict[Any, list[Array]]()
    for _, new in pairs:
        by_shape.setdefault((new.shape, new.dtype), []).append(new)
    screen = jnp.zeros(())
    for (shape, dtype), arrays in by_shape.items():
        tiny = jnp.full(shape, jnp.finfo(dtype).tiny, dtype)
        screen += jnp.vdot(functools.reduce(jnp.add, arrays), tiny)
    return jax.lax.cond(jnp.isfinite(screen), lambda: jnp.asarray(True), compare)
