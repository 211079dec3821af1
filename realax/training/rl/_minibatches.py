"""Steps of gradient descent through a batch, minibatch by minibatch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._types import Tree
from .._gradient_guard import GradientGuard, gradient_norm
from ..grad._update import updated


# `(trained, minibatch) -> ((loss, report), gradient)`.
type GradientOf = Callable[[Tree, Any], tuple[tuple[Float[Array, ""], Any], Tree]]


def minibatch_steps(
    gradient_of: GradientOf,
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

    - `gradient_of`: returns the loss with a report, and the gradient.
    - `optimizer`: Adam with its learning rate.
    - `start`: the trained arrays and the optimiser's state.
    - `guard`: skips steps by numbers that are not finite.
    - `minibatches`: returns the minibatch of some indices.
    - `orders`: the indices of each minibatch.
    - `longest`: the length to which longer gradients are shortened.
    - `allowed`: whether the learning rate and `longest` are numbers by which Adam's
        step of a finite gradient is finite.

    **Returns:** The trained arrays and the optimiser's state, the guard, and the means
    over the minibatches of the reports and of the gradient's length.
    """

    def one(carry: Any, indices: Array) -> tuple[Any, Any]:
        before, guard = carry
        trained, opt_state = before
        (loss, report), gradient = gradient_of(trained, minibatches(indices))
        norm = gradient_norm(gradient)

        def update() -> tuple[Tree, Tree]:
            scale = jnp.where(norm > longest, longest / norm, 1.0)
            short = jax.tree.map(lambda g: (g * scale).astype(g.dtype), gradient)
            return updated(
                optimizer, "adam", short, opt_state, trained, loss, lambda _: loss
            )

        after, guard = guard.apply(
            update, before, loss, norm, allowed=allowed, keeps_finite=True
        )
        return (after, guard), (report, norm)

    (after, guard), reports = jax.lax.scan(one, (start, guard), orders)
    return after, guard, jax.tree.map(jnp.mean, reports)
