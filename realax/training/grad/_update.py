"""One update by an optimiser of optax."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._types import Tree
from .._optimizers import Optimizer


def updated(
    optimizer: Optimizer,
    name: str,
    gradient: Tree,
    opt_state: Tree,
    trained: Tree,
    value: Float[Array, ""],
    value_fn: Callable[[Tree], Any],
) -> tuple[Tree, Tree]:
    """Apply an optimiser's update.

    **Arguments:**

    - `optimizer`: an optimiser of optax.
    - `name`: its name in messages.
    - `gradient`: the gradient of the loss at `trained`.
    - `opt_state`: the optimiser's state.
    - `trained`: the arrays that are trained.
    - `value`: the loss at `trained`, for optimisers that search along a line.
    - `value_fn`: the loss as a function of `trained`, for the same ones.

    **Returns:** The arrays and the optimiser's state after the update, with the dtypes
    that they had before.

    **Raises:** `TypeError` for an optimiser that needs more than that.
    """
    import optax

    try:
        updates, after = optax.with_extra_args_support(optimizer).update(
            gradient,
            opt_state,
            trained,
            value=value,
            grad=gradient,
            value_fn=value_fn,
        )
    except TypeError as error:
        raise TypeError(
            f"`optimizer`: {name} could not make its update from the loss's value, "
            "gradient and function, which is all there is, or a schedule of it "
            f"returned None: {error}"
        ) from error
    # Some optimisers mix dtypes; the state keeps its own from step to step.
    return optax.apply_updates(trained, updates), jax.tree.map(
        _of_dtype, after, opt_state
    )


def where_finite(new: Tree, old: Tree) -> Tree:
    """Return `new` with the numbers of `old` in place of those that are not finite."""
    return jax.tree.map(lambda n, o: jnp.where(jnp.isfinite(n), n, o), new, old)


def _of_dtype(new: Any, old: Array) -> Array:
    new = jnp.asarray(new)
    return new if new.dtype == old.dtype else new.astype(old.dtype)
