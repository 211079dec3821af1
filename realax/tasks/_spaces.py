"""Conversion of observations to vectors, and of vectors to actions."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from .._types import Tree
from ..policies import AbstractHead, CategoricalHead, JointHead, normal_head


if TYPE_CHECKING:
    from envelope import Space
else:
    Space = Any  # `import realax` does not import envelope, which is slow


class EnvSpace(NamedTuple):
    """The sizes of a policy's input and output on an environment.

    - `obs_dims`: the size of the flattened observation.
    - `action_dims`: the size of the policy's output: the number of choices if actions
        are `discrete`, else the number of their components.
    - `discrete`: True if the environment gets the argmax of the output.
    """

    obs_dims: int
    action_dims: int
    discrete: bool


@dataclasses.dataclass(frozen=True)
class _Box:
    shape: tuple[int, ...]
    dtype: Any

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def head(self, log_std: ArrayLike) -> AbstractHead:
        return normal_head(self.shape, log_std)


@dataclasses.dataclass(frozen=True)
class _Choice:
    shape: tuple[int, ...]
    dtype: Any
    counts: tuple[int, ...]  # the number of values of each element of the array

    @property
    def size(self) -> int:
        return sum(self.counts)

    def head(self, log_std: ArrayLike) -> AbstractHead:
        del log_std
        return CategoricalHead(self.counts, self.shape)

    @property
    def table(self) -> np.ndarray:
        """A row for each element, True for the values that it can take."""
        return np.arange(max(self.counts)) < np.asarray(self.counts)[:, None]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The static part of an environment's space: structure, shapes and counts.

    It holds no bounds, because they may depend on traced environment parameters.
    """

    treedef: Any
    leaves: tuple[_Box | _Choice, ...]

    @property
    def size(self) -> int:
        """The size of the vector: one for each box element and each possible value."""
        return sum(leaf.size for leaf in self.leaves)

    @property
    def discrete(self) -> bool:
        """True if all parts are choices."""
        return all(isinstance(leaf, _Choice) for leaf in self.leaves)

    @property
    def chooses(self) -> bool:
        """True if some part is a choice."""
        return any(isinstance(leaf, _Choice) for leaf in self.leaves)

    def head(self, log_std: ArrayLike) -> AbstractHead:
        """Return the head that makes distributions of actions of this layout.

        **Arguments:**

        - `log_std`: the logarithm of the deviation of each continuous component.
        """
        heads = [leaf.head(log_std) for leaf in self.leaves]
        if self.treedef == jax.tree.structure(0):
            return heads[0]
        return JointHead(tuple(heads), self.treedef)

    def flatten(self, obs: Tree) -> Float[Array, " obs"]:
        """Return an observation as one float vector, with discrete parts as one-hot."""
        parts = self.treedef.flatten_up_to(obs)
        vectors = [
            _one_hot(leaf, part) if isinstance(leaf, _Choice) else jnp.ravel(part)
            for leaf, part in zip(self.leaves, parts, strict=True)
        ]
        return jnp.concatenate([v.astype(jnp.result_type(float)) for v in vectors])

    def to_action(
        self, output: Tree, space: Space, live: Bool[Array, ""] | bool = True
    ) -> Tree:
        """Convert a policy's output to an action.

        **Arguments:**

        - `output`: a float vector of shape `(size,)`, or an action of the space's own
            structure.
        - `space`: the environment's action space, for its bounds.
        - `live`: whether the action counts. If not, a wrong one raises no error.

        **Raises:** `ValueError`, while tracing, for another shape; an error at run time
        for an integer that is not one of the choices.
        """
        if eqx.is_inexact_array(output) and output.shape == (self.size,):
            ends = np.cumsum([leaf.size for leaf in self.leaves])[:-1]
            parts = jnp.split(output, ends)
        elif jax.tree.structure(output) == self.treedef:
            parts = self.treedef.flatten_up_to(output)
        else:
            raise self._mismatch(output)
        pairs = zip(self.leaves, parts, _flatten(space)[0], strict=True)
        actions = [self._part(*pair, live) for pair in pairs]
        return jax.tree.unflatten(self.treedef, actions)

    def _part(self, leaf: _Box | _Choice, part: Any, bounds: Any, live: Any) -> Array:
        part = jnp.asarray(part)
        if isinstance(leaf, _Choice):
            if jnp.issubdtype(part.dtype, jnp.integer) and part.shape == leaf.shape:
                counts = np.reshape(leaf.counts, leaf.shape)
                if live is not False:
                    wrong = jnp.any((part < 0) | (part >= counts)) & live
                    part = eqx.error_if(part, wrong, self._out_of_range(leaf))
                return part.astype(leaf.dtype)
            if not jnp.issubdtype(part.dtype, jnp.floating) or part.size != leaf.size:
                raise self._mismatch(part)
            scores = jnp.full(leaf.table.size, -jnp.inf, part.dtype)
            scores = scores.at[np.flatnonzero(leaf.table)].set(part.ravel())
            choices = jnp.argmax(scores.reshape(leaf.table.shape), axis=-1)
            return choices.reshape(leaf.shape).astype(leaf.dtype)
        if part.size != leaf.size:
            raise self._mismatch(part)
        part = part.reshape(leaf.shape).astype(leaf.dtype)
        return jnp.clip(part, bounds.low, bounds.high)

    def _out_of_range(self, leaf: _Choice) -> str:
        most = sorted({n - 1 for n in leaf.counts})
        until = f"{most[0]}" if len(most) == 1 else f"{[n - 1 for n in leaf.counts]}"
        return (
            "an integer that a policy returns is the action itself and must be from 0 "
            f"to {until}, but got one out of range. Return scores, a float vector of "
            f"shape ({self.size},), to have the largest one chosen."
        )

    def _mismatch(self, output: Tree) -> ValueError:
        shapes = jax.tree.map(
            lambda x: f"{jnp.asarray(x).dtype}{list(jnp.shape(x))}", output
        )
        return ValueError(
            f"the environment's actions need a policy output of shape ({self.size},), "
            f"{'one score for each choice' if self.discrete else 'one for each action'}"
            f", but the policy returned {shapes}. Build the policy with "
            f"`action_dims={self.size}`, as `rx.ENV_SPACES[name].action_dims` says."
        )


class Layouts(NamedTuple):
    """The layouts of an environment's observations and actions."""

    obs: Layout
    action: Layout


def layouts_of(environment: Any) -> Layouts:
    """Return the layouts of an environment of `jax-envelope`."""
    return Layouts(
        layout_of(environment.observation_space), layout_of(environment.action_space)
    )


def layout_of(space: Space) -> Layout:
    """Return the layout of a space whose counts and shapes are concrete.

    **Raises:** `TypeError` if the space cannot be represented by a vector.
    """
    leaves, treedef = _flatten(space)
    return Layout(treedef, tuple(map(_leaf_layout, leaves)))


def _leaf_layout(space: Any) -> _Box | _Choice:
    from envelope import Continuous, Discrete

    if isinstance(space, Discrete):
        counts = tuple(int(n) for n in np.ravel(space.n))
        return _Choice(tuple(space.shape), space.dtype, counts)
    if isinstance(space, Continuous):
        return _Box(tuple(space.shape), space.dtype)
    raise TypeError(
        "an environment's spaces must be made of `envelope.Discrete` and "
        f"`envelope.Continuous`, but got {type(space).__name__}."
    )


def _flatten(space: Space) -> tuple[list[Any], Any]:
    from envelope import PyTreeSpace, Space

    tree = space.tree if isinstance(space, PyTreeSpace) else space
    return jax.tree.flatten(tree, is_leaf=lambda node: isinstance(node, Space))


def _one_hot(leaf: _Choice, value: Any) -> Array:
    wide = jax.nn.one_hot(jnp.ravel(jnp.asarray(value)), leaf.table.shape[1])
    return wide.ravel()[np.flatnonzero(leaf.table)]
