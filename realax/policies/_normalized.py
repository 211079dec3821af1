"""Running statistics of observations, and the policy that they are frozen into.

Whoever trains keeps `ObsStats` in its state, plays policies bound to them, and lets
them absorb the `Moments` of the observations that were met.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._errors import describe
from .._types import PRNGKeyArray, Tree
from ._base import BasePolicy, Decision


# In standard deviations: beyond, an observation says no more than that it is far away.
_FARTHEST = 10.0


class Moments(eqx.Module):
    """Sums over the observations of live steps, any leading axes of episodes first.

    - `count`: the number of steps.
    - `origin`: the first observation of the episode.
    - `total`, `squares`: the sums of the differences from it and of their squares.
        Differences are small, so that their sums lose little in float32.
    """

    count: Float[Array, "*episodes"]
    origin: Float[Array, "*episodes obs"]
    total: Float[Array, "*episodes obs"]
    squares: Float[Array, "*episodes obs"]

    @staticmethod
    def before(obs: Float[Array, " obs"]) -> "Moments":
        """The sums before the first step of an episode, whose observation is `obs`."""
        zero = jnp.zeros_like(obs)
        return Moments(jnp.zeros(()), obs, zero, zero)

    def with_obs(self, obs: Float[Array, " obs"]) -> "Moments":
        """The sums with one more observation of the same episode."""
        offset = obs - self.origin
        return Moments(
            self.count + 1,
            self.origin,
            self.total + offset,
            self.squares + offset**2,
        )

    @staticmethod
    def of(obs: Float[Array, "steps *streams obs"]) -> "Moments":
        """The sums over collected observations, such as a learner's rollout.

        **Arguments:**

        - `obs`: at least one step, steps first; any axes of streams in between.
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
        """An observation in standard deviations from the mean, at most 10."""
        variance = jnp.where(self.count > 1, self.spread / self.count, 1.0)
        scaled = (obs - self.mean) / jnp.sqrt(variance + 1e-8)
        return jnp.clip(scaled, -_FARTHEST, _FARTHEST)

    def bind[P](self, params: P) -> "NormalizedPolicy[P]":
        """`params` with these statistics frozen into them."""
        return NormalizedPolicy(params, self)

    def bind_population[P](self, population: P, pop: int) -> "NormalizedPolicy[P]":
        """A population with these statistics frozen into each of its individuals.

        **Arguments:**

        - `population`: parameters with a leading axis `pop` on every array.
        - `pop`: the size of that axis.
        """
        stats = jax.tree.map(lambda x: jnp.broadcast_to(x, (pop, *x.shape)), self)
        return stats.bind(population)

    def absorb(self, moments: Moments) -> "ObsStats":
        """The statistics with the observations of more episodes.

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
    """The statistics of no observation. Normalising by them changes next to nothing."""
    return ObsStats(jnp.zeros(()), jnp.zeros((dims,)), jnp.zeros((dims,)))


class NormalizedPolicy[P](BasePolicy[Any]):
    """A policy whose observations are normalised before it sees them.

    **Arguments:**

    - `policy`: a policy; or parameters, of which an environment task's `model_factory`
        makes one.
    - `stats`: the statistics by which observations are normalised.
    """

    policy: P
    stats: ObsStats

    def initialize(self, key: PRNGKeyArray) -> Any:
        """The first state of `policy`."""
        return self._inner.initialize(key)

    def __call__(self, obs: Any, state: Any, key: PRNGKeyArray) -> tuple[Tree, Any]:
        """The output of `policy` for the normalised observation."""
        decision = self.decide(obs, state, key)
        return decision.output, decision.state

    def decide(self, obs: Any, state: Any, key: PRNGKeyArray) -> Decision[Any]:
        """The decision of `policy` for the normalised observation.

        **Raises:** `ValueError` for an observation that is not the flat vector which
        the statistics are of.
        """
        expected = self.stats.mean.shape
        if getattr(obs, "shape", None) != expected:
            raise ValueError(
                f"a `NormalizedPolicy` with statistics of shape {expected} must get a "
                f"flat observation of that shape, but got {describe(obs)}. Build the "
                "environment task with `flatten_obs=True`, or normalise by statistics "
                "of the same environment."
            )
        return self._inner.decide(self.stats.normalize(obs), state, key)

    @property
    def _inner(self) -> BasePolicy[Any]:
        if not isinstance(self.policy, BasePolicy):
            raise TypeError(
                f"a `NormalizedPolicy` of a {type(self.policy).__name__} cannot play "
                "alone. Hand it to the environment task, whose `model_factory` makes a "
                "policy of that."
            )
        return self.policy
