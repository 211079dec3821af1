"""The diagonal normal."""

import math
from typing import Any

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from ..._errors import check_key
from ..._keys import quick
from ..._types import PRNGKeyArray, Scalar
from ._base import AbstractDistribution, check_action, wide, wide_type


class Normal(AbstractDistribution[Float[Array, "*event"]]):
    """A diagonal normal: each component has a mean and a standard deviation of its own.

    **Arguments:**

    - `mean`: the means, shape `event`.
    - `log_std`: logarithms of the standard deviations, of the same shape.

    An action is a float array of shape `event`. Samples are differentiable in both
    arguments.
    """

    mean: Float[Array, "*event"]
    log_std: Float[Array, "*event"]

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*event"]:
        """A random action, a differentiable function of mean and deviation."""
        return self.sample_by(self.noise(key))

    def noise(self, key: PRNGKeyArray) -> Float[Array, "*event"]:
        """A standard normal number for each component, of shape `event`."""
        return noise_like(self.mean, key)

    def sample_by(self, noise: Float[Array, "*event"]) -> Float[Array, "*event"]:
        """The point that is so many deviations from the mean."""
        return at(self, noise)

    def log_prob(self, action: Float[Array, "*event"]) -> Scalar:
        """The logarithm of the density at an action.

        **Arguments:**

        - `action`: shape `event`.

        **Raises:** `ValueError` for an action of another shape.
        """
        check_action(action, self.mean.shape, "Normal")
        noise = (wide(action) - wide(self.mean)) * jnp.exp(-wide(self.log_std))
        return log_density(self, noise)

    def entropy(self) -> Scalar:
        """The entropy in nats."""
        return jnp.sum(wide(self.log_std) + (1 + math.log(2 * math.pi)) / 2)

    def mode(self) -> Float[Array, "*event"]:
        """The mean."""
        return wide(self.mean)


def noise_like(mean: Any, key: PRNGKeyArray) -> Array:
    """A standard normal number for each component."""
    check_key(key)
    return jr.normal(quick(key), mean.shape, wide_type(mean))


def at(normal: Normal, noise: Array) -> Array:
    """The point that is so many deviations from the mean."""
    return wide(normal.mean) + jnp.exp(wide(normal.log_std)) * noise


def log_density(normal: Normal, noise: Array) -> Scalar:
    """The log-density at the point that is so many deviations from the mean."""
    log_std = wide(normal.log_std)
    return jnp.sum(-(noise**2) / 2 - log_std - math.log(2 * math.pi) / 2)
