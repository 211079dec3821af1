"""A guarded step of gradient descent by Adam."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._types import Tree
from .._gradient_guard import GradientGuard, gradient_norm
from ..grad._update import updated


# `trained -> ((loss, report), gradient)`.
type GradientOf = Callable[[Tree], tuple[tuple[Float[Array, ""], Any], Tree]]


def adam(rate: Any, eps: float = 1e-8) -> Any:
    """Return Adam.

    **Arguments:**

    - `rate`: the learning rate.
    - `eps`: added to the denominator.
    """
    import optax  # imported late: it would cost every script a tenth of a second

    return optax.adam(rate, eps=eps)


def annealed(rate: Float[Array, ""], step: Any, train_steps: Any) -> Float[Array, ""]:
    """Return a rate that falls linearly to 0 in the course of `train_steps` updates."""
    return rate * jnp.maximum(1 - step / train_steps, 0.0)


def gradient_step(
    gradient_of: GradientOf,
    optimizer: Any,
    before: tuple[Tree, Tree],
    guard: GradientGuard,
    longest: Float[Array, ""] | None,
    allowed: Bool[Array, ""],
) -> tuple[tuple[Tree, Tree], GradientGuard, tuple[Any, Float[Array, ""]]]:
    """Make a guarded step of Adam.

    **Arguments:**

    - `gradient_of`: returns the loss with a report, and the gradient.
    - `optimizer`: Adam with its learning rate.
    - `before`: the trained arrays and the optimiser's state.
    - `guard`: skips steps by numbers that are not finite.
    - `longest`: the length to which a longer gradient is shortened; `None`: any length.
    - `allowed`: whether the learning rate and `longest` are numbers by which Adam's
        step of a finite gradient is finite.

    **Returns:** The trained arrays and the optimiser's state, the guard, and the report
    with the length of the gradient.
    """
    trained, opt_state = before
    (loss, report), gradient = gradient_of(trained)
    norm = gradient_norm(gradient)

    def update() -> tuple[Tree, Tree]:
        short = gradient
        if longest is not None:
            scale = jnp.where(norm > longest, longest / norm, 1.0)
            short = jax.tree.map(lambda g: (g * scale).astype(g.dtype), gradient)
        return updated(
            optimizer, "adam", short, opt_state, trained, loss, lambda _: loss
        )

    after, guard = guard.apply(
        update, before, loss, norm, allowed=allowed, keeps_finite=True
    )
    return after, guard, (report, norm)
