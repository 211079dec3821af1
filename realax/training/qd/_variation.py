"""Emitters that vary random elites."""

from typing import Any, final

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from ..._arguments import Check, arguments, number, optional
from ..._keys import quick, split
from ..._types import PRNGKeyArray, Tree
from ._elites import Elites
from ._emitter import AbstractEmitter
from ._slopes import SlopesAt


_BOUNDS: dict[str, Check] = {
    "lower": optional(number()),
    "upper": optional(number()),
}


@final
class IsoLineEmitter(AbstractEmitter):
    """Moves random elites towards or away from others, with some noise.

    An individual is `x + iso_sigma * N(0, I) + line_sigma * N(0, 1) * (y - x)`, where
    `x` and `y` are random elites: the directions in which elites differ are those in
    which good individuals are found.

    **Arguments:**

    - `iso_sigma`: the deviation of the noise of each number.
    - `line_sigma`: the deviation of the step along the line between both.
    - `lower`, `upper`: bounds to which numbers are clipped; `None` for no bound.

    **Raises:** `ValueError` or `TypeError` that names the argument.

    Source: V. Vassiliades, J.-B. Mouret, Discovering the Elite Hypervolume by
    Leveraging Interspecies Correlation, arXiv:1804.03906.
    """

    iso_sigma: Float[Array, ""]
    line_sigma: Float[Array, ""]
    lower: Float[Array, ""] | None
    upper: Float[Array, ""] | None

    @arguments(iso_sigma=number(0.0), line_sigma=number(0.0), **_BOUNDS)
    def __init__(
        self,
        iso_sigma: ArrayLike = 0.01,
        line_sigma: ArrayLike = 0.2,
        *,
        lower: ArrayLike | None = None,
        upper: ArrayLike | None = None,
    ):
        self.iso_sigma = _leaf(iso_sigma)
        self.line_sigma = _leaf(line_sigma)
        self.lower, self.upper = _bounds("IsoLineEmitter", lower, upper)

    def ask(
        self,
        key: PRNGKeyArray,
        state: Tree,
        elites: Elites,
        popsize: int,
        slopes: SlopesAt | None = None,
    ) -> tuple[Float[Array, "pop dims"], Tree]:
        """Return a generation of such individuals."""
        parent_key, iso_key, line_key = split(key, 3)
        first, second = elites.sample(parent_key, 2 * popsize).reshape(2, popsize)
        x, y = elites.flat[first], elites.flat[second]
        iso = self.iso_sigma * jr.normal(quick(iso_key), x.shape, x.dtype)
        line = self.line_sigma * jr.normal(quick(line_key), (popsize, 1), x.dtype)
        return jnp.clip(x + iso + line * (y - x), self.lower, self.upper), state


@final
class GaussianEmitter(AbstractEmitter):
    """Adds normal noise to random elites.

    **Arguments:**

    - `sigma`: the deviation of the noise of each number.
    - `lower`, `upper`: bounds to which numbers are clipped; `None` for no bound.

    **Raises:** `ValueError` or `TypeError` that names the argument.
    """

    sigma: Float[Array, ""]
    lower: Float[Array, ""] | None
    upper: Float[Array, ""] | None

    @arguments(sigma=number(0.0), **_BOUNDS)
    def __init__(
        self,
        sigma: ArrayLike = 0.1,
        *,
        lower: ArrayLike | None = None,
        upper: ArrayLike | None = None,
    ):
        self.sigma = _leaf(sigma)
        self.lower, self.upper = _bounds("GaussianEmitter", lower, upper)

    def ask(
        self,
        key: PRNGKeyArray,
        state: Tree,
        elites: Elites,
        popsize: int,
        slopes: SlopesAt | None = None,
    ) -> tuple[Float[Array, "pop dims"], Tree]:
        """Return a generation of such individuals."""
        parent_key, noise_key = split(key)
        x = elites.flat[elites.sample(parent_key, popsize)]
        noise = self.sigma * jr.normal(quick(noise_key), x.shape, x.dtype)
        return jnp.clip(x + noise, self.lower, self.upper), state


def _leaf(value: Any) -> Array:
    return jnp.asarray(value, jnp.result_type(float))


def _bounds(name: str, lower: Any, upper: Any) -> tuple[Array | None, Array | None]:
    low, high = (None if x is None else _leaf(x) for x in (lower, upper))
    known = low is not None and high is not None
    if known and not isinstance(low, Tracer) and not isinstance(high, Tracer):
        if np.asarray(low) >= np.asarray(high):
            raise ValueError(
                f"`lower` of `{name}` must be below `upper`, but got {lower} and "
                f"{upper}."
            )
    return low, high
