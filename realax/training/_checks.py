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
from ._state import AbstractState
from .observers import Logger


logger: Check = optional(instance(Logger, 'Logger("runs/first")'))
record: Check = optional(function("(state) -> tree of arrays"))


def a_state(phrase: str, value: Any) -> Any:
    """Check that `value` is a state of a trainer."""
    if not isinstance(value, AbstractState):
        raise TypeError(
            f"{phrase} must be a state from `initialize` or a run, but got "
            f"{describe(value)}."
        )
    return value


def batches(phrase: str, value: Any) -> Any:
    """Check that `value` can be iterated over and is not a single tree or array."""
    expected = f"{phrase} must be an iterable of batches"
    if isinstance(value, str | dict) or not hasattr(value, "__iter__"):
        raise TypeError(f"{expected}, but got {describe(value)}.")
    if eqx.is_array(value):
        raise TypeError(
            f"{expected}, but got {describe(value)}. Pass `data` to `train` to "
            "use it in each step, or pass a list of batches: `list(array)`, `[array]`."
        )
    return value


def check_one(state: Any) -> None:
    """Refuse a batch of states, such as `vmap` returns.

    **Raises:** `ValueError`.
    """
    if state.step.shape != ():
        raise ValueError(
            f"`state` must be one state, but got one whose `step` has shape "
            f"{state.step.shape}. Map over a batch of states: "
            "`jax.vmap(trainer.train)(states, keys)`."
        )


def trainable(phrase: str, value: Any) -> Any:
    """Check that `value` is a tree of floating-point arrays with finite values."""
    tree: Any = value
    if isinstance(value, type):
        raise TypeError(
            f"{phrase} must be a model or a tree of arrays, but got the class "
            f"`{value.__name__}`. Make an instance of it: `{value.__name__}(...)`."
        )
    if isinstance(value, NormalizedPolicy):
        tree = value.policy
    Template(tree, phrase)
    check_finite(phrase, tree)
    return value


def check_finite(phrase: str, tree: Any) -> None:
    """Refuse NaN and infinity in the arrays of a tree.

    Traced arrays are accepted, because their values are not known yet.

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
                f"`{jax.tree_util.keystr(path) or '(root)'}`. Training cannot "
                "start there: find out what produced them."
            )


def check_record(chosen: Any) -> None:
    """Refuse a result of a trainer's `record` that holds no array.

    **Raises:** `TypeError`, while tracing.
    """
    if not any(eqx.is_array_like(leaf) for leaf in jax.tree.leaves(chosen)):
        raise TypeError(
            "`record` must return arrays of the state, but got "
            f"{describe(chosen)}. For example: `lambda state: state.best_params`."
        )


def check_rate(argument: str, rate: Any) -> Any:
    """Return the rate of a schedule for a step.

    **Raises:** `ValueError` if it is not one number.
    """
    if not eqx.is_array_like(rate) or jnp.shape(rate) != ():
        raise ValueError(
            f"{argument} must return one number for a step, but got {describe(rate)}."
        )
    return rate
