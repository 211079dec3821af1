"""Descriptors of episodes: what a policy does, folded while it plays."""

import abc
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._arguments import arguments, function as a_function
from .._errors import describe
from .._trees import strong
from .._types import Tree


_SIGNATURE = "(env_state, info) -> numbers"


class AbstractDescriptor(eqx.Module):
    """Says in a few numbers what a policy does in an episode, for quality diversity.

    A summary is folded over the steps of an episode, so that none of them is stored. It
    is a tree of arrays that keeps its shapes and dtypes.

    `env_state` is the environment's own state, and `info` what its `step` returned with
    it: `info.obs`, `info.reward`, `info.terminated`. The state of a `BraxTask` is
    brax's, with `env_state.pipeline_state`. With `env_kwargs={"debug": True}` that has
    a `contact`: `contact.dist` are distances in meters, and `contact.link_idx` the two
    links of each, -1 for the ground. What stands on the ground can float above it by a
    fraction of a millimeter, so compare distances with a small number and not with 0.
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


def begun(descriptor: AbstractDescriptor, env_state: Tree, info: Any) -> Tree:
    """Return the summary before the first step, as arrays.

    **Raises:** `TypeError`, while tracing, for anything else than arrays and numbers.
    """
    summary = descriptor.begin(env_state, info)
    for leaf in jax.tree.leaves(summary):
        if not _storable(leaf):
            raise TypeError(
                f"`{type(descriptor).__name__}.begin` must return a tree of arrays and "
                f"numbers, but it holds {describe(leaf)}. Keep what is the same in all "
                "episodes in a field of the descriptor."
            )
    # Strong, so that a number begins as the scan and the lanes carry it on.
    return strong(summary)


def updated(
    descriptor: AbstractDescriptor, summary: Tree, env_state: Tree, info: Any
) -> Tree:
    """Return the summary after one more step, with the dtypes of the one before.

    **Raises:** `TypeError`, while tracing, for one of other shapes or dtypes.
    """
    found = descriptor.update(summary, env_state, info)
    phrase = (
        f"`{type(descriptor).__name__}.update` must return a summary of the shapes and "
        "dtypes that `begin` returned, but got"
    )
    before, after = jax.tree.structure(summary), jax.tree.structure(found)
    if before != after:
        raise TypeError(
            f"{phrase} the structure {after} in place of {before}. Return a tree of "
            "the same structure from both."
        )

    def keep(path: Any, old: Array, new: Any) -> Array:
        if not _fits(old, new):
            where = jax.tree_util.keystr(path)
            raise TypeError(
                f"{phrase} {describe(new)} in place of {describe(old)}"
                f"{where and f' at `{where}`'}. Begin with one like it, such as "
                "`jnp.zeros(shape)`, or convert it in `update`."
            )
        return jnp.asarray(new, old.dtype)

    return jax.tree_util.tree_map_with_path(keep, summary, found)


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


def _storable(leaf: Any) -> bool:
    """Return whether jax can hold it: numpy also has arrays of text and of objects."""
    if isinstance(leaf, np.ndarray | np.generic):
        return leaf.dtype.kind in "biufc" or jnp.issubdtype(leaf.dtype, jnp.number)
    return eqx.is_array_like(leaf)


def _fits(old: Array, new: Any) -> bool:
    """Return whether a value has an array's shape, and a dtype that it can take."""
    if not _storable(new) or jnp.shape(new) != old.shape:
        return False
    if getattr(new, "dtype", None) == old.dtype:  # also for keys, which never promote
        return True
    is_key = jnp.issubdtype(jnp.result_type(new), jax.dtypes.prng_key)
    return not is_key and jnp.result_type(old, new) == old.dtype


def _vector(found: Any, phrase: str) -> Float[Array, " dims"]:
    """Return a number or a vector of numbers as a vector in the default float type."""
    kinds = jnp.integer, jnp.floating, jnp.bool_
    real = _storable(found) and any(
        jnp.issubdtype(jnp.result_type(found), kind) for kind in kinds
    )
    if not real or jnp.ndim(found) > 1 or jnp.size(found) == 0:
        raise TypeError(
            f"{phrase} must return a number or a vector of numbers, but got "
            f"{describe(found)}. Join several: `jnp.stack([a, b])`, "
            "`jnp.concatenate([x, y])`."
        )
    return jnp.atleast_1d(jnp.asarray(found, jnp.result_type(float)))
