"""Running statistics of observations, and the policy that they are frozen into."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import PRNGKeyArray, Tree
from ._base import BasePolicy, decide


# In standard deviations: beyond, an observation says no more than that it is far away.
_FARTHEST = 10.0


class Moments(eqx.Module):
    """Sums over the live steps of episodes, any leading axes of episodes first.

    - `count`: how many steps.
    - `origin`: an episode's first observation.
    - `total`, `squares`: of the differences from it, which are small numbers.
    """

    count: Float[Array, "*episodes"]
    origin: Float[Array, "*episodes obs"]
    total: Float[Array, "*episodes obs"]
    squares: Float[Array, "*episodes obs"]


class ObsStats(eqx.Module):
    """The mean and variance of all observations so far.

    - `count`: of how many.
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

    def bind[P](self, params: P, counting: bool = False) -> "NormalizedPolicy[P]":
        """`params` with these statistics frozen into them."""
        return NormalizedPolicy(params, self, counting)

    def bind_population[P](self, population: P, pop: int) -> "NormalizedPolicy[P]":
        """As `bind`, for parameters with a leading axis `pop`; these count."""
        stats = jax.tree.map(lambda x: jnp.broadcast_to(x, (pop, *x.shape)), self)
        return stats.bind(population, counting=True)

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
    """Statistics of no observation: what is normalised by them stays as it is."""
    return ObsStats(jnp.zeros(()), jnp.zeros((dims,)), jnp.zeros((dims,)))


class NormalizedPolicy[P](BasePolicy[Any]):
    """A policy behind the normalisation of its observations.

    **Arguments:**

    - `policy`: a policy; or parameters, of which an environment task's `model_factory`
        makes one.
    - `stats`: by what observations are normalised.
    - `counting`: whether an environment task is to sum up the observations it meets.
    """

    policy: P
    stats: ObsStats
    counting: bool = eqx.field(static=True, default=False)

    def initialize(self, key: PRNGKeyArray) -> Any:
        """The state of `policy`."""
        return self._inner.initialize(key)

    def __call__(self, obs: Any, state: Any, key: PRNGKeyArray) -> tuple[Tree, Any]:
        """The output of `policy` for the normalised observation."""
        return decide(self._inner, self.stats.normalize(obs), state, key)

    def none_met(self, obs: Array) -> Moments | None:
        """The sums before an episode's first step; `None` where nothing is counted."""
        if not self.counting:
            return None
        zero = jnp.zeros_like(self.stats.mean)
        return Moments(jnp.zeros(()), obs.astype(zero.dtype), zero, zero)

    def met(self, moments: Moments, obs: Array) -> Moments:
        """The sums with one more observation."""
        offset = obs - moments.origin
        return Moments(
            moments.count + 1,
            moments.origin,
            moments.total + offset,
            moments.squares + offset**2,
        )

    @property
    def _inner(self) -> BasePolicy[Any]:
        if not isinstance(self.policy, BasePolicy):
            raise TypeError(
                f"a `NormalizedPolicy` of a {type(self.policy).__name__} can not play "
                "alone. Hand it to the environment task, whose `model_factory` makes a "
                "policy of that."
            )
        return self.policy  # pyright: ignore[reportUnknownVariableType]
