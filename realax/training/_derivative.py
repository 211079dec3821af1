"""Losses and their gradients, with matrices in the form in which they are fast."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._types import Tree


# Larger matrices are left as they are: to turn a table of which a loss reads a few rows
# would take longer than to differentiate it.
_MOST = 2**16


def value_and_grad[V](
    loss: Callable[[Tree], V],
) -> Callable[[Tree], tuple[V, Tree]]:
    """Return a function of the parameters that returns the loss and its gradient.

    On CPU, the gradient of a weight is a product over the batch, which takes XLA up to
    six times as long if it has more rows than columns, as in the first layer of a
    network of few inputs. Such a weight is differentiated as its transpose.

    **Arguments:**

    - `loss`: a function that returns `(loss, report)`.

    **Returns:** A function that returns `((loss, report), gradient)`, as that of
    `jax.value_and_grad` with `has_aux=True` does.
    """

    def of_turned(turned: Tree, parameters: Tree) -> V:
        return loss(jax.tree.map(_turned, turned, parameters))

    def at(parameters: Tree) -> tuple[V, Tree]:
        turned = jax.tree.map(_turned, parameters, parameters)
        both = jax.value_and_grad(of_turned, has_aux=True)
        found, gradient = both(turned, parameters)
        return found, jax.tree.map(_turned, gradient, parameters)

    if jax.default_backend() != "cpu":
        return jax.value_and_grad(loss, has_aux=True)
    return at


def _turned(leaf: Any, like: Any) -> Any:
    """Return the transpose of a matrix if `like` has more rows than columns."""
    if not (jnp.ndim(like) in (2, 3) and like.size <= _MOST):  # 3: a stack of matrices
        return leaf
    rows, columns = like.shape[-2:]
    if rows <= columns:
        return leaf
    # Without the barrier, XLA turns products in place of their results.
    return jnp.matrix_transpose(jax.lax.optimization_barrier(leaf))
