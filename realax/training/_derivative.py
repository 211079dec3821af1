"""Losses and their gradients, with matrices in the form in which they are fast."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._types import Tree


# Of other weights, the transposes take longer than they save in small batches.
_MOST_COLUMNS, _MOST_NUMBERS = 32, 2**13


def value_and_grad[R](
    loss: Callable[[Tree], tuple[Array, R]],
) -> Callable[[Tree], tuple[tuple[Array, R], Tree]]:
    """Return a function of the parameters that returns the loss and its gradient.

    On CPU, the gradient of a weight is a product over the batch, which takes XLA up to
    six times as long if it has more rows than columns, as in the first layer of a
    network of few inputs. Such a weight is differentiated as its transpose, if it has
    at most 32 columns and 8192 numbers.

    **Arguments:**

    - `loss`: a function of a tree of arrays that returns `(loss, report)`.

    **Returns:** A function that returns `((loss, report), gradient)`, as that of
    `jax.value_and_grad` with `has_aux=True` does.
    """

    def of_turned(turned: Tree, parameters: Tree) -> tuple[Array, R]:
        return loss(jax.tree.map(_turned, turned, parameters))

    def at(parameters: Tree) -> tuple[tuple[Array, R], Tree]:
        turned = jax.tree.map(_turned, parameters, parameters)
        both = jax.value_and_grad(of_turned, has_aux=True)
        found, gradient = both(turned, parameters)
        return found, jax.tree.map(_turned, gradient, parameters)

    return at


def nth(stack: Tree, n: int) -> Tree:
    """Return one of several trees that are stacked, for a loss of `value_and_grad`.

    **Arguments:**

    - `stack`: a tree of arrays with a leading axis.
    - `n`: which one, from 0.
    """

    def chosen(leaf: Any) -> Any:
        if leaf.ndim < 3 or not _is_turned(leaf):
            return leaf[n]
        # The product has to be turned before it is put back into the stack.
        return jnp.matrix_transpose(leaf)[n].T

    return jax.tree.map(chosen, stack)


def _turned(leaf: Any, like: Any) -> Any:
    """Return the transpose of `leaf`, if `like` is differentiated as its transpose."""
    if not _is_turned(like):
        return leaf
    # Without the barrier, XLA turns products in place of their results.
    return jnp.matrix_transpose(jax.lax.optimization_barrier(leaf))


def _is_turned(leaf: Any) -> bool:
    # Three axes are those of several critics' weights; few other arrays have them.
    if jax.default_backend() != "cpu" or leaf.ndim not in (2, 3):
        return False
    rows, columns = leaf.shape[-2:]
    return rows > columns <= _MOST_COLUMNS and rows * columns <= _MOST_NUMBERS
