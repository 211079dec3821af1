"""Passes through a batch, minibatch by minibatch, and PPO's steps in them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._types import Tree
from .._gradient_guard import GradientGuard
from ._gradient_step import gradient_step


def over_minibatches[C](
    step: Callable[[C, Any], tuple[C, Any]],
    start: C,
    batch: Any,
    orders: Int[Array, "passes minibatches size"],
) -> tuple[C, Any]:
    """Make a step for each minibatch of each pass.

    The rows of a pass are gathered at once, which takes the memory of a second batch on
    each device: on two cores, gathers of each minibatch were a tenth of PPO's time.

    **Arguments:**

    - `step`: a function `(carry, minibatch) -> (carry, report)`.
    - `start`: the first carry.
    - `batch`: arrays with a leading axis of rows.
    - `orders`: the indices of the rows in each minibatch.

    **Returns:** The last carry, and the means of the reports.
    """

    def one_pass(carry: C, order: Array) -> tuple[C, Any]:
        rows = jax.tree.map(lambda leaf: leaf[order], batch)
        return jax.lax.scan(step, carry, rows)

    end, reports = jax.lax.scan(one_pass, start, orders)
    return end, jax.tree.map(lambda leaf: jnp.mean(leaf, (0, 1)), reports)


def minibatch_steps(
    gradient_of: Callable[[Tree, Any], tuple[tuple[Float[Array, ""], Any], Tree]],
    optimizer: Any,
    start: tuple[Tree, Tree],
    guard: GradientGuard,
    batch: Any,
    orders: Int[Array, "passes minibatches size"],
    longest: Float[Array, ""],
    allowed: Bool[Array, ""],
) -> tuple[tuple[Tree, Tree], GradientGuard, tuple[Any, Float[Array, ""]]]:
    """Make a guarded step of Adam for each minibatch.

    **Arguments:**

    - `gradient_of`: returns the loss of the trained arrays on a minibatch with a
        report, and the gradient.
    - `start`: the trained arrays and the optimiser's state.
    - `batch`, `orders`: as for `over_minibatches`.
    - `optimizer`, `guard`, `longest`, `allowed`: as for `gradient_step`.

    **Returns:** The trained arrays and the optimiser's state, the guard, and the means
    over the minibatches of the reports and of the gradient's length.
    """

    def one(carry: Any, rows: Any) -> tuple[Any, Any]:
        before, guard = carry
        after, guard, report = gradient_step(
            lambda trained: gradient_of(trained, rows),
            optimizer,
            before,
            guard,
            longest,
            allowed,
        )
        return (after, guard), report

    (after, guard), report = over_minibatches(one, (start, guard), batch, orders)
    return after, guard, report
