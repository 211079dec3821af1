"""What PPO learns from: the experience of an update, with advantages and targets."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._trees import with_fields
from ..._types import Tree
from ...policies import ActorCritic, Judgement, replay
from ...tasks import Experience
from ._returns import advantages, following_values
from ._weights import sound, weighted_mean


class Batch(eqx.Module):
    """The sequences that PPO learns from.

    Each leaf has a leading axis of sequences: of single steps for a model without
    memory, else of the environments' whole stretches, with a second axis of steps.

    - `obs`: the observations, as the networks get them.
    - `output`: the policy's own actions, before clipping to the environment's bounds.
    - `log_prob`: the logarithm of their probabilities under the policy that played.
    - `states`, `fresh`: for `replay`.
    - `advantage`: the advantage estimates.
    - `value`, `target`: the critic's estimates when the steps were played, and the
        returns that it learns.
    - `weight`: 1, or 0 for a step that failed.
    """

    obs: Tree
    output: Tree
    log_prob: Float[Array, "*batch"]
    states: Tree
    fresh: Bool[Array, "*batch"]
    advantage: Float[Array, "*batch"]
    value: Float[Array, "*batch"]
    target: Float[Array, "*batch"]
    weight: Float[Array, "*batch"]

    def by_sequence(self, recurrent: bool) -> "Batch":
        """Return the batch by sequences, from one with the axes `(steps, envs)`."""

        def arranged(leaf: Array) -> Array:
            if recurrent:
                return jnp.swapaxes(leaf, 0, 1)
            return leaf.reshape(-1, *leaf.shape[2:])

        return jax.tree.map(arranged, self)

    def normalized(self) -> "Batch":
        """Return the batch with advantages of mean 0 and deviation 1."""
        centered = self.advantage - weighted_mean(self.advantage, self.weight)
        variance = weighted_mean(centered**2, self.weight)
        return with_fields(self, advantage=centered / (jnp.sqrt(variance) + 1e-8))

    def explained_variance(self) -> Float[Array, ""]:
        """Return the share of the returns' variance that the critic explains."""
        targets = jnp.stack([self.target, self.target - self.value])
        variance, left = jnp.var(targets, tuple(range(1, targets.ndim)))
        return jnp.where(variance > 0, 1 - left / jnp.maximum(variance, 1e-12), 0.0)


def batch_of(
    model: ActorCritic,
    rows: Experience,
    obs: Tree,
    next_obs: Tree,
    rewards: Float[Array, "steps envs"],
    gamma: Float[Array, ""],
    gae_lambda: Float[Array, ""],
) -> Batch:
    """Compute advantages and targets of experience, and arrange it by sequence.

    **Arguments:**

    - `model`: the actor and critic that played.
    - `rows`: the experience.
    - `obs`, `next_obs`: its observations as the networks get them.
    - `rewards`: its rewards as the critic learns them; finite.
    - `gamma`, `gae_lambda`: as for `advantages`.
    """
    recurrent = model.recurrent
    value, next_value = values_of(model, rows, obs, next_obs, recurrent)
    advantage = advantages(
        rewards,
        value,
        next_value,
        rows.terminated,
        rows.over,
        rows.failed,
        gamma,
        gae_lambda,
    )

    value = sound(rows.failed, value)
    batch = Batch(
        obs=sound(rows.failed, obs),
        output=sound(rows.failed, rows.output),
        log_prob=sound(rows.failed, log_probs(rows)),
        states=rows.extras["state"],
        fresh=fresh_steps(rows),
        advantage=advantage,
        value=value,
        target=advantage + value,
        weight=(~rows.failed).astype(advantage.dtype),
    )
    return batch.by_sequence(recurrent)


def judged(model: ActorCritic, batch: Batch, recurrent: bool) -> Judgement:
    """Return the model's judgements of all steps of a batch by sequence."""
    if recurrent:
        play = jax.vmap(lambda *sequence: replay(model, *sequence))
        return play(batch.obs, batch.states, batch.fresh)
    return jax.vmap(model.__call__)(batch.obs, batch.states)


def values_of(
    model: ActorCritic, rows: Experience, obs: Tree, next_obs: Tree, recurrent: bool
) -> tuple[Float[Array, "steps envs"], Float[Array, "steps envs"]]:
    """Return the critic's values of the observations before and after each step.

    **Arguments:**

    - `model`: the actor and critic.
    - `rows`: the experience.
    - `obs`, `next_obs`: its observations as the networks get them.
    - `recurrent`: whether the model has a memory.
    """
    states = rows.extras["state"]
    # Of a module itself, `jax.vmap` prints all parts while it looks for a name.
    over_steps = jax.vmap(jax.vmap(model.__call__))
    if recurrent:
        play = jax.vmap(lambda *one: replay(model, *one), in_axes=1, out_axes=1)
        first = play(obs, states, fresh_steps(rows))
    else:
        first = over_steps(obs, states)

    def critic(some: Any) -> Array:
        return over_steps(*some).value

    following = next_obs, first.state
    return first.value, following_values(first.value, rows, following, critic)


def log_probs(rows: Experience) -> Float[Array, "steps envs"]:
    """Return the logarithms of the probabilities of the actions that were played."""
    log_prob = jax.vmap(jax.vmap(lambda drawn, action: drawn.log_prob(action)))
    return log_prob(rows.extras["distribution"], rows.output)


def fresh_steps(rows: Experience) -> Bool[Array, "steps envs"]:
    """Return which steps begin an episode, or are the first of all."""
    return jnp.concatenate([jnp.ones_like(rows.over[:1]), rows.over[:-1]])
