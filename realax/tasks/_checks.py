"""Checks of what environment tasks are given."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .._arguments import Check, flag, function, keywords, optional, whole
from .._errors import describe
from .._types import Tree


def environment(what: str, fits: Callable[[Any], bool]) -> Check:
    """A name, or an environment that is hashable.

    **Arguments:**

    - `what`: the kind of environment, for messages.
    - `fits`: whether an object is one.
    """

    def check(phrase: str, value: Any) -> Any:
        if isinstance(value, str):
            return value
        expected = f"{phrase} must be a name or {what}"
        if isinstance(value, type):
            name = value.__name__
            raise TypeError(
                f"{expected}, but got the class `{name}`. Make an instance of it: "
                f"`{name}(...)`."
            )
        if not fits(value):
            raise TypeError(f"{expected}, but got {describe(value)}.")
        try:
            structure = jax.tree.structure(value)
            # A tree's arrays need not be.
            hash(value if structure == jax.tree.structure(0) else structure)
        except TypeError as error:
            raise TypeError(
                f"{phrase} must be hashable, because it decides what is compiled, but "
                f"got a {type(value).__name__}: {error}. Where it is a dataclass, write"
                " `@dataclass(eq=False)`."
            ) from error
        return value

    return check


def same_shapes(env: Any, name: str, given: Tree, default: Tree) -> None:
    """Refuse values of a parameter that are not numbers of the default's shape.

    **Raises:** `TypeError` or `ValueError` that names the parameter.
    """
    leaves, structure = jax.tree.flatten(default)
    phrase = f"`env_params` of {env!r}: {name!r}"
    if jax.tree.structure(given) != structure:
        raise TypeError(f"{phrase} must be like {default!r}, but got {given!r}.")
    for new, old in zip(jax.tree.leaves(given), leaves, strict=True):
        try:
            shape, dtype = jnp.shape(new), jnp.result_type(new)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{phrase} must be a number, but got {describe(new)}."
            ) from error
        if shape != jnp.shape(old) or not _numeric(dtype):
            raise ValueError(
                f"{phrase} must be numbers of shape {jnp.shape(old)}, but got "
                f"{describe(new)}. For several values, map over tasks: `jax.vmap("
                f"lambda value: rx.GymnaxTask(..., env_params={{{name!r}: value}})"
                "(policy, key))(values)`."
            )


def _numeric(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.number) or dtype == jnp.bool_


# Of every task on an environment.
EPISODES: Mapping[str, Check] = {
    "max_steps": optional(whole()),
    "model_factory": function("(params) -> policy"),
    "data_fn": optional(function("(trajectory) -> aux")),
    "env_kwargs": keywords,
    "lanes": optional(whole(0)),
    "chunk": optional(whole()),
    "normalize_obs": flag,
}
