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

    return at


def one_of(stack: Tree, i: int) -> Tree:
    """Return one of several trees that are stacked, for a loss of `value_and_grad`.

    **Arguments:**

    - `stack`: a tree of arrays with a leading axis.
    - `i`: which one.
    """

    def chosen(leaf: Any) -> Any:
        if leaf.ndim < 3 or not _is_turned(leaf):
            return leaf[i]
        # The product has to be turned before it is put back into the stack.
        return jnp.matrix_transpose(leaf)[i].T

    return jax.tree.map(chosen, stack)


def _turned(leaf: Any, like: Any) -> Any:
    """Return the transpose of `leaf`, if `like` is differentiated as its transpose."""
    if not _is_turned(like):
        return leaf
    # Without the barrier, XLA turns products in place of their results.
    return jnp.matrix_transpose(jax.lax.optimization_barrier(leaf))


def _is_turned(leaf: Any) -> bool:
    if jax.default_backend() != "cpu" or leaf.size > _MOST:
        return False
    # Of three axes, it is a stack of matrices.
    return leaf.ndim in (2, 3) and leaf.shape[-2] > leaf.shape[-1]
