"""Descriptors of episodes: what a policy does, folded while it plays."""

import abc
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._arguments import arguments, function as a_function
from .._errors import describe
from .._types import Tree


_SIGNATURE = "(env_state, info) -> numbers"


class AbstractDescriptor(eqx.Module):
    """Says in a few numbers what a policy does in an episode, for quality diversity.

    A summary is folded over the steps of an episode, so that none of them is stored. It
    is a tree of arrays that keeps its types.

    `env_state` is the environment's own state, and `info` what its `step` returned with
    it: `info.obs`, `info.reward`, `info.terminated`. The state of a `BraxTask` is
    brax's, with `env_state.pipeline_state`.
    """

    @abc.abstractmethod
    def begin(self, env_state: Tree, info: Any) -> Tree:
        """Return the summary before the first step.

        **Arguments:**

        - `env_state`, `info`: those at the start of the episode.
        """

    @abc.abstractmethod
    def update(self, summary: Tree, env_state: Tree, info: Any) -> Tree:
        """Return the summary after one more step.

        **Arguments:**

        - `summary`: the summary before it.
        - `env_state`, `info`: those after the step.
        """

    @abc.abstractmethod
    def end(self, summary: Tree, length: Int[Array, ""]) -> Float[Array, " dims"]:
        """Return the descriptor of the episode.

        **Arguments:**

        - `summary`: the summary after its last step.
        - `length`: the number of its steps.
        """


@final
class MeanOf(AbstractDescriptor):
    """The mean over the steps of an episode of a function of the environment's state.

    **Arguments:**

    - `function`: `(env_state, info) -> numbers`, one or a vector, called after each
        step.
    """

    function: Callable[[Any, Any], Any]

    @arguments(function=a_function(_SIGNATURE))
    def __init__(self, function: Callable[[Any, Any], Any]):
        self.function = function

    def begin(self, env_state: Tree, info: Any) -> Tree:
        """Return a sum of nothing."""
        return jnp.zeros_like(_vector(self.function(env_state, info), _name(self)))

    def update(self, summary: Tree, env_state: Tree, info: Any) -> Tree:
        """Return the sum with one more step."""
        return summary + _vector(self.function(env_state, info), _name(self))

    def end(self, summary: Tree, length: Int[Array, ""]) -> Float[Array, " dims"]:
        """Return the mean."""
        return summary / jnp.maximum(length, 1)


@final
class LastOf(AbstractDescriptor):
    """The value of a function of the environment's state after an episode's last step.

    **Arguments:**

    - `function`: `(env_state, info) -> numbers`, one or a vector.
    """

    function: Callable[[Any, Any], Any]

    @arguments(function=a_function(_SIGNATURE))
    def __init__(self, function: Callable[[Any, Any], Any]):
        self.function = function

    def begin(self, env_state: Tree, info: Any) -> Tree:
        """Return the value at the start."""
        return _vector(self.function(env_state, info), _name(self))

    def update(self, summary: Tree, env_state: Tree, info: Any) -> Tree:
        """Return the value after one more step."""
        del summary
        return _vector(self.function(env_state, info), _name(self))

    def end(self, summary: Tree, length: Int[Array, ""]) -> Float[Array, " dims"]:
        """Return the last value."""
        del length
        return summary


def described(
    descriptor: AbstractDescriptor | None, summary: Tree, length: Int[Array, ""]
) -> Float[Array, " dims"] | None:
    """Return the descriptor of an episode; `None` if it has none.

    **Raises:** `TypeError`, while tracing, for one that is no vector of numbers.
    """
    if descriptor is None:
        return None
    found = descriptor.end(summary, length)
    return _vector(found, f"`{type(descriptor).__name__}.end`")


def a_descriptor(phrase: str, value: Any) -> AbstractDescriptor:
    """Check a descriptor."""
    if not isinstance(value, AbstractDescriptor):
        example = "rx.MeanOf(function)"
        if callable(value) and not isinstance(value, type):
            name = getattr(value, "__name__", "function")
            example = f"rx.MeanOf({name})` or `rx.LastOf({name})"
        raise TypeError(
            f"{phrase} must be a descriptor such as `{example}`, but got "
            f"{describe(value)}."
        )
    return value


def aux_of(length: Array, descriptor: Array | None) -> dict[str, Array]:
    """Return the aux of an episode."""
    aux = {"length": length}
    return aux if descriptor is None else {**aux, "descriptor": descriptor}


def _name(descriptor: MeanOf | LastOf) -> str:
    return f"the function of `{type(descriptor).__name__}`"


def _vector(found: Any, phrase: str) -> Float[Array, " dims"]:
    """Return a number or a vector of numbers as a vector in the default float type."""
    real = eqx.is_array_like(found) and not jnp.issubdtype(
        jnp.result_type(found), jnp.complexfloating
    )
    if not real or jnp.ndim(found) > 1:
        raise TypeError(
            f"{phrase} must return a number or a vector of numbers, but got "
            f"{describe(found)}. Join several: `jnp.stack([a, b])`, "
            "`jnp.concatenate([x, y])`."
        )
    return jnp.atleast_1d(jnp.asarray(found, jnp.result_type(float)))
