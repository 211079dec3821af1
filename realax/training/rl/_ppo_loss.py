"""The loss of PPO on a minibatch."""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...policies import AbstractDistribution, ActorCritic
from ._batch import Batch, judged


@runtime_checkable
class Settings(Protocol):
    """The coefficients of the loss, which `PPO` describes."""

    @property
    def clip_eps(self) -> Float[Array, ""]:
        """How far the ratio of probabilities may be from 1."""
        ...

    @property
    def value_clip(self) -> Float[Array, ""] | None:
        """How far the critic's estimate may move."""
        ...

    @property
    def vf_coef(self) -> Float[Array, ""]:
        """The weight of the critic's loss."""
        ...

    @property
    def ent_coef(self) -> Float[Array, ""]:
        """The weight of the entropy."""
        ...


class Losses(eqx.Module):
    """The parts of the loss, and how far the policy has moved, in this order.

    - `policy`, `value`, `entropy`: means over the steps.
    - `approx_kl`, `clip_fraction`: as in `PPOMetrics`.
    """

    policy: Float[Array, ""]
    value: Float[Array, ""]
    entropy: Float[Array, ""]
    approx_kl: Float[Array, ""]
    clip_fraction: Float[Array, ""]


def ppo_loss(
    model: ActorCritic,
    batch: Batch,
    total: Float[Array, ""],
    settings: Settings,
    recurrent: bool,
) -> tuple[Float[Array, ""], Float[Array, "5"]]:
    """Return the loss to minimise, and the fields of `Losses`.

    **Arguments:**

    - `model`: the actor and critic.
    - `batch`: the sequences of a minibatch, or of a device's part of it.
    - `total`: the number of steps of the whole minibatch, by which sums are divided.
    - `settings`: the coefficients.
    - `recurrent`: whether the model has a memory.

    Source: J. Schulman et al., Proximal Policy Optimization Algorithms,
    arXiv:1707.06347.
    """

    judgement = judged(model, batch, recurrent)
    over_steps = jax.vmap(jax.vmap(_looked_up)) if recurrent else jax.vmap(_looked_up)
    log_prob, entropy = over_steps(judgement.distribution, batch.output)

    clip_eps, value_clip = settings.clip_eps, settings.value_clip
    log_ratio = log_prob - batch.log_prob
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps)
    surrogate = jnp.minimum(ratio * batch.advantage, clipped * batch.advantage)

    error = (judgement.value - batch.target) ** 2
    if value_clip is not None:
        change = jnp.clip(judgement.value - batch.value, -value_clip, value_clip)
        error = jnp.maximum(error, (batch.value + change - batch.target) ** 2)
    kl = ratio - 1 - log_ratio
    outside = (jnp.abs(ratio - 1) > clip_eps).astype(ratio.dtype)
    # They are summed at once, because a sum is three kernels to compile and to start.
    parts = jnp.stack([-surrogate, 0.5 * error, entropy, kl, outside])
    means = jnp.sum(parts * batch.weight, tuple(range(1, parts.ndim))) / total
    policy, value, entropy, *_ = means
    return policy + settings.vf_coef * value - settings.ent_coef * entropy, means


def _looked_up(
    distribution: AbstractDistribution[Any], action: Any
) -> tuple[Array, Array]:
    return distribution.log_prob(action), distribution.entropy()
