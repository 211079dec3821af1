"""Running statistics of observations, and the policy that normalises by them.

A trainer keeps `ObsStats` in its state, evaluates policies that are bound to them, and
updates them with the `Moments` of the observations.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._errors import describe
from .._types import PRNGKeyArray, Tree
from ._base import AbstractDecidingPolicy, BasePolicy, Decision


# In standard deviations. Larger values are clipped.
_FARTHEST = 10.0


class Moments(eqx.Module):
    """Sums over the observations of episodes, with any leading axes of episodes.

    - `count`: the number of steps.
    - `origin`: the first observation of the episode.
    - `total`, `squares`: the sums of the differences from it, and of their squares.
        Differences are small, so that their sums lose little precision in float32.
    """

    count: Float[Array, "*episodes"]
    origin: Float[Array, "*episodes obs"]
    total: Float[Array, "*episodes obs"]
    squares: Float[Array, "*episodes obs"]

    @staticmethod
    def before(obs: Float[Array, " obs"]) -> "Moments":
        """Return the sums before the first step, whose observation is `obs`."""
        zero = jnp.zeros_like(obs)
        return Moments(jnp.zeros(()), obs, zero, zero)

    def with_obs(self, obs: Float[Array, " obs"]) -> "Moments":
        """Return the sums with one more observation of the same episode."""
        offset = obs - self.origin
        return Moments(
            self.count + 1,
            self.origin,
            self.total + offset,
            self.squares + offset**2,
        )

    @staticmethod
    def of(obs: Float[Array, "steps *streams obs"]) -> "Moments":
        """Return the sums over collected observations, such as a learner's rollout.

        **Arguments:**

        - `obs`: the observations of at least one step; steps are the first axis.
        """
        offset = obs - obs[0]
        count = jnp.full(obs.shape[1:-1], obs.shape[0], jnp.result_type(float))
        return Moments(
            count, obs[0], jnp.sum(offset, axis=0), jnp.sum(offset**2, axis=0)
        )


class ObsStats(eqx.Module):
    """The mean and variance of all observations so far.

    - `count`: the number of observations.
    - `mean`: their mean.
    - `spread`: the sum of their squared differences from it.
    """

    count: Float[Array, "*pop"]
    mean: Float[Array, "*pop obs"]
    spread: Float[Array, "*pop obs"]

    def normalize(self, obs: Array) -> Array:
        """Return an observation in standard deviations from the mean, clipped at 10."""
        variance = jnp.where(self.count > 1, self.spread / self.count, 1.0)
        scaled = (obs - self.mean) / jnp.sqrt(variance + 1e-8)
        return jnp.clip(scaled, -_FARTHEST, _FARTHEST)

    def bind[P](self, params: P) -> "NormalizedPolicy[P]":
        """Return a policy that normalises its observations by these statistics."""
        return NormalizedPolicy(params, self)

    def bind_population[P](self, population: P, pop: int) -> "NormalizedPolicy[P]":
        """Return a population whose individuals normalise by these statistics.

        **Arguments:**

        - `population`: parameters with a leading axis `pop` on every array.
        - `pop`: the size of that axis.
        """
        stats = jax.tree.map(lambda x: jnp.broadcast_to(x, (pop, *x.shape)), self)
        return stats.bind(population)

    def absorb(self, moments: Moments) -> "ObsStats":
        """Return the statistics with the observations of more episodes added.

        Episodes whose observations are not finite are left out.

        Source: T. Chan, G. Golub, R. LeVeque, Updating Formulae and a Pairwise
        Algorithm for Computing Sample Variances, 1979.
        """
        sums = (moments.origin, moments.total, moments.squares)
        sound = jnp.all(jnp.isfinite(jnp.concatenate(sums, axis=-1)), axis=-1)[
            ..., None
        ]
        axes = tuple(range(moments.count.ndim))
        counts = jnp.where(sound, moments.count[..., None], 0.0)
        count = jnp.sum(counts, axes)
        offset = jnp.where(sound, moments.total / jnp.maximum(counts, 1), 0.0)
        means = jnp.where(sound, moments.origin, 0.0) + offset
        center = jnp.sum(counts * (means - self.mean), axes) / jnp.maximum(count, 1)
        center += self.mean
        within = jnp.sum(
            jnp.where(sound, moments.squares - offset * moments.total, 0), axes
        )
        between = jnp.sum(counts * (means - center) ** 2, axes)
        after = self.count + count[0]
        step = jnp.where(count > 0, center - self.mean, 0.0)
        share = count / jnp.maximum(after, 1)
        return ObsStats(
            count=after,
            mean=self.mean + step * share,
            spread=self.spread
            + jnp.maximum(within, 0)
            + between
            + step**2 * self.count * share,
        )


def no_obs(dims: int) -> ObsStats:
    """Return the statistics of no observation. Normalising by them changes little."""
    return ObsStats(jnp.zeros(()), jnp.zeros((dims,)), jnp.zeros((dims,)))


class NormalizedPolicy[P](AbstractDecidingPolicy):
    """A policy that gets normalised observations.

    **Arguments:**

    - `policy`: a policy, or parameters from which the task's `model_factory` makes one.
    - `stats`: the statistics by which observations are normalised.
    """

    policy: P
    stats: ObsStats

    def initialize(self, key: PRNGKeyArray) -> Any:
        """Return the initial state of `policy`."""
        return self._inner.initialize(key)

    def noise_for(self, key: PRNGKeyArray, obs: Any, state: Any) -> Tree:
        """Return the random numbers of `policy` for one step."""
        return self._inner.noise_for(key, obs, state)

    def decide(self, obs: Any, state: Any, noise: Tree) -> Decision[Any]:
        """Return the decision of `policy` for the normalised observation.

        **Raises:** `ValueError` if the observation is not a flat vector of the size of
        the statistics.
        """
        expected = self.stats.mean.shape
        if getattr(obs, "shape", None) != expected:
            raise ValueError(
                f"a `NormalizedPolicy` with statistics of shape {expected} must get a "
                f"flat observation of that shape, but got {describe(obs)}. Build the "
                "environment task with `flatten_obs=True`, or normalise by statistics "
                "of the same environment."
            )
        return self._inner.decide(self.stats.normalize(obs), state, noise)

    @property
    def _inner(self) -> BasePolicy[Any]:
        if not isinstance(self.policy, BasePolicy):
            raise TypeError(
                f"a `NormalizedPolicy` of a {type(self.policy).__name__} cannot play "
                "alone. Hand it to the environment task, whose `model_factory` makes a "
                "policy of that."
            )
        return self.policy
