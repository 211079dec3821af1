"""Checks, in a compiled step, that numbers stay finite."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ._types import Tree


def stays_finite(before: Tree, after: Tree) -> Bool[Array, ""]:
    """Whether no number that was finite in `before` ceases to be in `after`."""
    pairs = [
        (old, new)
        for old, new in zip(*map(jax.tree.leaves, (before, after)), strict=True)
        if jnp.issubdtype(new.dtype, jnp.inexact)
    ]

    def look() -> Bool[Array, ""]:
        lost = [jnp.any(jnp.isfinite(old) & ~jnp.isfinite(new)) for old, new in pairs]
        return ~jnp.any(jnp.stack([jnp.asarray(False), *lost]))

    # A scalar product is several times faster than looking at each number, and is not
    # finite where one of them is not. Only then is it worth while to look. One for all
    # arrays of a shape: each costs a call, however small they are.
    alike = dict[Any, list[Array]]()
    for _, new in pairs:
        alike.setdefault((new.shape, new.dtype), []).append(new)
    glance = jnp.zeros(())
    for (shape, dtype), arrays in alike.items():
        tiny = jnp.full(shape, jnp.finfo(dtype).tiny, dtype)
        glance += jnp.vdot(functools.reduce(jnp.add, arrays), tiny)
    return jax.lax.cond(jnp.isfinite(glance), lambda: jnp.asarray(True), look)
