"""Parameters of evosax's algorithms, by name."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from ..._errors import closest, describe


def updated_params(algorithm: str, defaults: Any, given: Any) -> Any:
    """Return an algorithm's default parameters, updated by the user's.

    **Arguments:**

    - `algorithm`: its name, for messages.
    - `defaults`: evosax's Params with array leaves.
    - `given`: `None`, a mapping from names to values, or a whole Params.

    **Raises:** `ValueError` with the closest matches for an unknown name; `ValueError`
    or `TypeError` for a value of another shape or kind.
    """
    names = [field.name for field in dataclasses.fields(defaults)]
    known = {name: getattr(defaults, name) for name in names}
    if given is None:
        given = {}
    elif isinstance(given, type(defaults)):
        given = {name: getattr(given, name) for name in known}
        shapes = [jax.tree.map(jnp.shape, tree) for tree in (given, known)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"`es_params` must be those of {algorithm} with this `popsize` and "
                "these `params_like`, but got those for others. Give the values "
                "that differ from the defaults, by name, or None: "
                "`dataclasses.replace(trainer, popsize=..., es_params=None)`."
            )
    elif not isinstance(given, Mapping):
        raise TypeError(
            "`es_params` must be a dictionary of values by name, or the Params of "
            f"{algorithm}, but got {describe(given)}. For example: "
            f"`{{'std_init': 0.1}}`."
        )
    for name, value in given.items():
        if name not in known:
            raise ValueError(
                f"`es_params` of {algorithm} have no {name!r}. {closest(name, known)}"
            )
        if jax.tree.structure(value) != jax.tree.structure(known[name]):
            raise TypeError(
                f"`es_params`: {name!r} must be like {known[name]}, but got "
                f"{describe(value)}."
            )
        known[name] = jax.tree.map(functools.partial(_value, name), value, known[name])
    return dataclasses.replace(defaults, **known)


def _value(name: str, new: Any, default: Array) -> Array:
    phrase = f"`es_params`: {name!r}"
    if not eqx.is_array_like(new):
        raise TypeError(f"{phrase} must be a number, but got {describe(new)}.")
    if jnp.shape(new) != default.shape:
        raise ValueError(
            f"{phrase} must have shape {default.shape}, but got {jnp.shape(new)}. To "
            "try several values, map over trainers: "
            "`jax.vmap(lambda value: eqx.tree_at(lambda t: "
            f"t.es_params.{name}, trainer, value).init_and_train(key))(values)`."
        )
    kinds = jnp.result_type(new), default.dtype
    mixed = (kinds[0] == jnp.bool_) != (kinds[1] == jnp.bool_)
    if mixed or not jnp.can_cast(*kinds, "same_kind"):
        raise ValueError(
            f"{phrase} must be of kind {default.dtype}, but got {kinds[0]}."
        )
    if jnp.issubdtype(default.dtype, jnp.inexact):
        _check_numbers(phrase, new, default, least=0.0 if _deviates(name) else -np.inf)
    return jnp.asarray(new, default.dtype)


def _deviates(name: str) -> bool:
    return name.startswith("std")


def _check_numbers(phrase: str, new: Any, default: Array, least: float) -> None:
    """Refuse NaN, infinity unless it is the default, and numbers below `least`."""
    if isinstance(new, Tracer) or isinstance(default, Tracer):
        return
    numbers = np.asarray(new, np.float64)
    unbounded = not np.all(np.isfinite(np.asarray(default)))
    sound = ~np.isnan(numbers) if unbounded else np.isfinite(numbers)
    if not np.all(sound & (numbers >= least)):
        kind = "finite and not negative" if least == 0 else "finite"
        raise ValueError(f"{phrase} must be {kind}, but got {new}.")
