"""Checks of arguments that several trainers share."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._arguments import Check, function, instance, optional
from .._errors import describe
from .._template import Template
from ..policies import NormalizedPolicy
from .observers import AbstractObserver, Logger


logger: Check = optional(instance(Logger, 'Logger("runs/first")'))
record: Check = optional(function("(state) -> tree of arrays"))


def observers(phrase: str, value: Any) -> Any:
    """One observer, or a tuple or list of them; `None` is none."""
    if value is None:
        return ()
    if isinstance(value, AbstractObserver):
        return value
    expected = f"{phrase} must be observers, one or a tuple of them"
    if not isinstance(value, tuple | list):
        raise TypeError(
            f"{expected}, but got {describe(value)}. For example: "
            "`(ProgressBar(), EarlyStopping(patience=100))`."
        )
    for i, one in enumerate(value):
        if not isinstance(one, AbstractObserver):
            raise TypeError(
                f"{expected}, but got {describe(one)} as number {i + 1}. Make it a "
                "subclass of `AbstractObserver`, and pass an instance."
            )
    return tuple(value)


def trainable(phrase: str, value: Any) -> Any:
    """A tree with floating-point arrays, all of them finite where they are known."""
    tree: Any = value
    if isinstance(value, NormalizedPolicy):
        tree = value.policy
    Template(tree, phrase)
    check_finite(phrase, tree)
    return value


def check_finite(phrase: str, tree: Any) -> None:
    """Refuse NaN and infinity in the arrays of a tree.

    What is being traced is let through, as its numbers are not known yet.

    **Raises:** `ValueError` that names the array by its path.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not eqx.is_inexact_array(leaf) or isinstance(leaf, Tracer):
            continue
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            continue
        bad = np.size(leaf) - np.count_nonzero(np.isfinite(np.asarray(leaf)))
        if bad:
            raise ValueError(
                f"{phrase} must hold finite numbers, but got {bad} of "
                f"{np.size(leaf)} that are not, at "
                f"`{jax.tree_util.keystr(path) or '(root)'}`. Nothing can be learned "
                "from there: look where they come from."
            )


def check_record(chosen: Any) -> None:
    """Refuse what a trainer's `record` returned, if there is no array in it.

    **Raises:** `TypeError`, while tracing.
    """
    if not any(eqx.is_array_like(leaf) for leaf in jax.tree.leaves(chosen)):
        raise TypeError(
            "`record` must return arrays of the state, but got "
            f"{describe(chosen)}. For example: `lambda state: state.best_params`."
        )


def check_rate(argument: str, rate: Any) -> Any:
    """What a schedule returned for a step. **Raises:** `ValueError`."""
    if not eqx.is_array_like(rate) or jnp.shape(rate) != ():
        raise ValueError(
            f"{argument} must return one number for a step, but got {describe(rate)}."
        )
    return rate
