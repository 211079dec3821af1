"""Heads: from a network's scores to the distribution of an action."""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ._bounds import Bounds
from ._distributions import (
    AbstractDistribution,
    Categorical,
    Joint,
    Normal,
    TanhNormal,
)


class AbstractHead(eqx.Module):
    """Makes the distribution of an action from a vector of scores.

    A head is a part of a policy: its arrays are trained with the network's.
    """

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """The number of scores."""

    @abc.abstractmethod
    def __call__(self, scores: Float[Array, " size"]) -> AbstractDistribution[Any]:
        """Return the distribution of an action.

        **Arguments:**

        - `scores`: the network's output, shape `(size,)`.
        """


class CategoricalHead(AbstractHead):
    """Reads scores as the logits of one or several choices.

    **Arguments:**

    - `counts`: the number of possible values of each choice.
    - `shape`: the shape of the action, an array of `len(counts)` integers; `()` for a
        single choice.
    """

    counts: tuple[int, ...] = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True, default=())

    @property
    def size(self) -> int:
        """The sum of `counts`."""
        return sum(self.counts)

    def __call__(self, scores: Float[Array, " size"]) -> Categorical:
        """Return the choices, of which shorter ones are filled up with impossible."""
        if len(set(self.counts)) == 1:
            return Categorical(scores.reshape(*self.shape, self.counts[0]))
        table = np.arange(max(self.counts)) < np.asarray(self.counts)[:, None]
        logits = jnp.full(table.size, -jnp.inf, scores.dtype)
        logits = logits.at[np.flatnonzero(table)].set(scores)
        return Categorical(logits.reshape(*self.shape, max(self.counts)))


class NormalHead(AbstractHead):
    """Reads scores as the means of normals, whose deviations are parameters.

    **Arguments:**

    - `log_std`: the logarithms of the deviations with which training begins, of the
        action's shape. They do not depend on the observation.
    """

    log_std: Float[Array, "*shape"]

    @property
    def size(self) -> int:
        """The number of components of the action."""
        return math.prod(self.log_std.shape)

    def __call__(self, scores: Float[Array, " size"]) -> Normal:
        """Return independent normals of the action's shape."""
        return Normal(scores.reshape(self.log_std.shape), self.log_std)


# The logarithm of a deviation that depends on the observation, at least and at most.
_LEAST_LOG_STD, _MOST_LOG_STD = -5.0, 2.0


class TanhNormalHead(AbstractHead):
    """Reads scores as the means and deviations of normals squashed between bounds.

    The first half of the scores are the means. The tanh of the other half is scaled to
    logarithms of deviations from -5 to 2.

    **Arguments:**

    - `bounds`: the bounds of each component of the action.
    """

    bounds: Bounds = eqx.field(static=True)

    @property
    def size(self) -> int:
        """Two for each component of the action."""
        return 2 * self.bounds.size

    def __call__(self, scores: Float[Array, " size"]) -> TanhNormal:
        """Return independent squashed normals, of shape `(size / 2,)`."""
        mean, spread = jnp.split(scores, 2)
        share = (jnp.tanh(spread) + 1) / 2
        log_std = _LEAST_LOG_STD + (_MOST_LOG_STD - _LEAST_LOG_STD) * share
        low, high = np.asarray(self.bounds.low), np.asarray(self.bounds.high)
        return TanhNormal(mean, log_std, low, high)


class JointHead(AbstractHead):
    """Splits scores among the parts of an action.

    **Arguments:**

    - `heads`: the heads of the parts, in order.
    - `treedef`: the structure of the action.
    """

    heads: tuple[AbstractHead, ...]
    treedef: Any = eqx.field(static=True)

    @property
    def size(self) -> int:
        """The sum of the sizes of `heads`."""
        return sum(head.size for head in self.heads)

    def __call__(self, scores: Float[Array, " size"]) -> Joint:
        """Return the independent distributions of the parts."""
        ends = np.cumsum([head.size for head in self.heads])[:-1]
        parts = jnp.split(scores, ends)
        made = [head(part) for head, part in zip(self.heads, parts, strict=True)]
        return Joint(jax.tree.unflatten(self.treedef, made))


def normal_head(shape: tuple[int, ...], log_std: ArrayLike) -> NormalHead:
    """Return a `NormalHead` of one deviation for all components."""
    return NormalHead(jnp.full(shape, log_std, jnp.result_type(float)))
