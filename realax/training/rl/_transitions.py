"""The steps that a replay buffer holds, and the batches that are learned from."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._trees import where, with_fields
from ..._types import PRNGKeyArray, Tree
from ...policies import ObsStats
from ...tasks import Experience
from ._replay import ReplayBuffer
from ._weights import sound, weighted_mean


class Transition(eqx.Module):
    """A step of an environment, as a replay buffer holds it.

    - `obs`, `next_obs`: the observations before and after the step; at the end of an
        episode the latter is its own last one.
    - `action`: the action that the environment got: a number of a choice, or a vector.
    - `reward`: the environment's reward.
    - `terminated`: True if the environment ended the episode.
    - `over`: True if the episode ended for any reason.
    - `failed`: True if a number of the step was not finite. Its numbers are zeros.
    """

    obs: Tree
    action: Array
    reward: Float[Array, "*steps"]
    next_obs: Tree
    terminated: Bool[Array, "*steps"]
    over: Bool[Array, "*steps"]
    failed: Bool[Array, "*steps"]


class Replayed(eqx.Module):
    """A batch of transitions of one or several steps, to learn from.

    - `obs`: the observations before them, as the networks get them.
    - `action`: the actions there.
    - `reward`: the discounted sum of the rewards.
    - `discount`: the factor of the value that follows; 0 after a termination.
    - `next_obs`: the observations after them.
    - `weight`: 1, or 0 for a step that failed.
    """

    obs: Tree
    action: Array
    reward: Float[Array, " batch"]
    discount: Float[Array, " batch"]
    next_obs: Tree
    weight: Float[Array, " batch"]

    def mean(self, numbers: Float[Array, " batch"]) -> Float[Array, ""]:
        """Return the mean over the transitions that did not fail."""
        return weighted_mean(numbers, self.weight)


def transitions_of(rows: Experience) -> Transition:
    """Return experience as rows of a replay buffer, in the order of time.

    **Arguments:**

    - `rows`: experience with the leading axes `(steps, envs)`.
    """

    def one(row: Experience) -> Transition:
        found = Transition(
            obs=row.obs,
            action=_as_number_or_vector(row.action),
            reward=row.reward,
            next_obs=row.next_obs,
            terminated=row.terminated,
            over=row.over,
            failed=row.failed,
        )
        kept = sound(row.failed, found)
        return with_fields(kept, over=row.over, failed=row.failed)

    made = jax.vmap(jax.vmap(one))(rows)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), made)


def _as_number_or_vector(action: Tree) -> Array:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(action)]
    if len(leaves) == 1 and jnp.issubdtype(leaves[0].dtype, jnp.integer):
        return leaves[0].reshape(())
    return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])


def replayed(
    buffer: ReplayBuffer[Transition],
    stats: ObsStats | None,
    key: PRNGKeyArray,
    batch_size: int,
    gamma: Float[Array, ""],
    num_envs: int,
    n_step: int,
) -> Replayed:
    """Return a batch of random transitions of up to `n_step` steps.

    They are shorter at the end of an episode, before a step that failed, and at the
    newest rows, so that each stored step is as likely as any other.

    **Arguments:**

    - `buffer`: the replay buffer, with the steps of all environments side by side.
    - `stats`: the statistics by which observations are normalised, if they are.
    - `key`: all randomness comes from it.
    - `batch_size`: the number of transitions.
    - `gamma`: the discount of a step.
    - `num_envs`: the number of environments.
    - `n_step`: the largest number of steps of a transition.
    """
    places = buffer.places(key, batch_size)
    first = last = buffer.rows(places)
    reward, discount = first.reward, jnp.full_like(first.reward, gamma)
    going = ~first.over
    for k in range(1, n_step):
        row = buffer.rows(buffer.later(places, k * num_envs))
        going &= (buffer.newer(places) >= k * num_envs) & ~row.failed
        reward += jnp.where(going, discount * row.reward, 0.0)
        discount = jnp.where(going, discount * gamma, discount)
        last = jax.vmap(where)(going, row, last)
        going &= ~row.over
    obs, next_obs = first.obs, last.next_obs
    if stats is not None:
        obs, next_obs = stats.normalize(obs), stats.normalize(next_obs)
    return Replayed(
        obs=obs,
        action=first.action,
        reward=reward,
        discount=jnp.where(last.terminated, 0.0, discount),
        next_obs=next_obs,
        weight=(~first.failed).astype(reward.dtype),
    )
