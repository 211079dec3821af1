"""Checks of the arguments of environment tasks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._arguments import Check
from .._callables import name_of
from .._errors import describe
from .._frozen import identity
from .._types import Tree
from ..policies import BasePolicy, NormalizedPolicy


def environment(what: str, fits: Callable[[Any], bool]) -> Check:
    """Return a check for a name, or for a hashable environment of one kind.

    **Arguments:**

    - `what`: the kind of environment, for messages.
    - `fits`: a function that returns whether an object is of that kind.
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
            # Only the structure of a tree must be hashable; its arrays never are.
            hash(value if structure == jax.tree.structure(0) else structure)
        except TypeError as error:
            raise TypeError(
                f"{phrase} must be hashable, because it decides what is compiled, but "
                f"got a {type(value).__name__}: {error}. If it is a dataclass, write "
                "`@dataclass(eq=False)`."
            ) from error
        return value

    return check


def same_shapes(env: Any, name: str, given: Tree, default: Tree) -> None:
    """Refuse values of a parameter that are NaN or not of the default's shape.

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
        # Infinity passes, because it switches some limits off.
        if not isinstance(new, Tracer) and np.any(np.isnan(new)):
            raise ValueError(f"{phrase} must be a number, but got NaN.")


def _numeric(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.number) or dtype == jnp.bool_


def policy_from(params: Any, factory: Callable[..., Any]) -> BasePolicy[Any]:
    """Return the policy that a `model_factory` makes from parameters.

    Statistics of a `NormalizedPolicy` are bound to the policy that is made.

    **Raises:** `TypeError` if it makes anything else.
    """
    stats = None
    if isinstance(params, NormalizedPolicy):
        params, stats = params.policy, params.stats
    policy = checked_policy(factory(params), factory)
    return policy if stats is None else stats.bind(policy)


def checked_policy(policy: Any, factory: Callable[..., Any]) -> BasePolicy[Any]:
    """Return the policy that a `model_factory` made.

    **Raises:** `TypeError` if it made anything else.
    """
    if not isinstance(policy, BasePolicy):
        got = describe(policy)
        if isinstance(policy, type):
            got = f"the class `{policy.__name__}`"
        if factory is not identity:
            got += f" from `model_factory` {name_of(factory)}"
        raise TypeError(
            "the parameters of an environment task must be a policy, a subclass of "
            f"`realax.tasks.rl_policy.BasePolicy`, but got {got}. Pass a policy as the "
            "parameters, or a `model_factory` that makes one from them."
        )
    return policy
