"""Steps of gradient descent through a batch, minibatch by minibatch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._types import Tree
from .._gradient_guard import GradientGuard
from ._gradient_step import gradient_step


def minibatch_steps(
    gradient_of: Callable[[Tree, Any], tuple[tuple[Float[Array, ""], Any], Tree]],
    optimizer: Any,
    start: tuple[Tree, Tree],
    guard: GradientGuard,
    minibatches: Callable[[Array], Any],
    orders: Int[Array, "minibatches size"],
    longest: Float[Array, ""],
    allowed: Bool[Array, ""],
) -> tuple[tuple[Tree, Tree], GradientGuard, tuple[Any, Float[Array, ""]]]:
    """Make a guarded step of Adam for each minibatch.

    **Arguments:**

    - `gradient_of`: returns the loss of the trained arrays on a minibatch with a
        report, and the gradient.
    - `start`: the trained arrays and the optimiser's state.
    - `minibatches`: returns the minibatch of some indices.
    - `orders`: the indices of each minibatch.
    - `optimizer`, `guard`, `longest`, `allowed`: as for `gradient_step`.

    **Returns:** The trained arrays and the optimiser's state, the guard, and the means
    over the minibatches of the reports and of the gradient's length.
    """

    def one(carry: Any, indices: Array) -> tuple[Any, Any]:
        before, guard = carry
        rows = minibatches(indices)
        after, guard, report = gradient_step(
            lambda trained: gradient_of(trained, rows),
            optimizer,
            before,
            guard,
            longest,
            allowed,
        )
        return (after, guard), report

    (after, guard), reports = jax.lax.scan(one, (start, guard), orders)
    return after, guard, jax.tree.map(jnp.mean, reports)
