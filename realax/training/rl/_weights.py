"""Steps that failed, which count nothing, and means over the others."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._trees import where
from ..._types import Tree


def sound(failed: Bool[Array, "*steps"], tree: Tree) -> Any:
    """Return a tree of steps with zeros in place of the numbers of those that failed.

    They count nothing, but nothing times NaN is NaN.

    **Arguments:**

    - `failed`: True for a step of which a number was not finite.
    - `tree`: a tree of arrays with the leading axes of `failed`.
    """
    choose = where
    for _ in range(failed.ndim):
        choose = jax.vmap(choose)
    return choose(failed, jax.tree.map(jnp.zeros_like, tree), tree)


def weighted_mean(
    numbers: Float[Array, "*steps"], weight: Float[Array, "*steps"]
) -> Float[Array, ""]:
    """Return the mean of the numbers of weight 1; 0 if there are none."""
    return jnp.sum(numbers * weight) / jnp.maximum(jnp.sum(weight), 1.0)
