"""Scaling of rewards by the deviation of the discounted return."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...policies import Moments, ObsStats, no_obs


# In deviations of the return: larger rewards are clipped.
_LARGEST = 10.0


class RewardScale(eqx.Module):
    """Running statistics of discounted returns; a part of a trainer's state.

    - `returns`: the discounted sum of rewards so far in each environment's episode.
    - `stats`: their mean and variance over all steps so far.

    Source: L. Engstrom et al., Implementation Matters in Deep Policy Gradients,
    arXiv:2005.12729.
    """

    returns: Float[Array, " envs"]
    stats: ObsStats

    @staticmethod
    def new(num_envs: int) -> "RewardScale":
        """Return the statistics before the first step."""
        return RewardScale(jnp.zeros((num_envs,)), no_obs(1))

    def scaled(
        self,
        rewards: Float[Array, "steps envs"],
        over: Bool[Array, "steps envs"],
        gamma: Float[Array, ""],
    ) -> tuple[Float[Array, "steps envs"], "RewardScale"]:
        """Return rewards divided by the deviation, and the statistics with them.

        **Arguments:**

        - `rewards`: finite rewards.
        - `over`: True where an episode ended.
        - `gamma`: the discount of a step.
        """

        def forward(before: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
            reward, ends = step
            now = gamma * before + reward
            return jnp.where(ends, 0.0, now), now

        after, returns = jax.lax.scan(forward, self.returns, (rewards, over))
        stats = self.stats.absorb(Moments.of(returns[..., None]))
        variance = stats.spread / jnp.maximum(stats.count, 1)
        scaled = rewards / jnp.sqrt(variance + 1e-8)
        return jnp.clip(scaled, -_LARGEST, _LARGEST), RewardScale(after, stats)
