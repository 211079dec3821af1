"""Advantages and the returns that critics learn."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._anywhere import anywhere
from ..._types import Tree
from ...tasks import Experience


def advantages(
    rewards: Float[Array, "steps envs"],
    values: Float[Array, "steps envs"],
    next_values: Float[Array, "steps envs"],
    terminated: Bool[Array, "steps envs"],
    over: Bool[Array, "steps envs"],
    failed: Bool[Array, "steps envs"],
    gamma: Float[Array, ""],
    gae_lambda: Float[Array, ""],
) -> Float[Array, "steps envs"]:
    """Return generalised advantage estimates.

    **Arguments:**

    - `rewards`: the reward of each step.
    - `values`: the value of the observation before each step.
    - `next_values`: the value of the observation after it, at the end of an episode of
        its final one.
    - `terminated`: True where the environment ended the episode; nothing follows.
    - `over`: True where the episode ended for any reason. After one that was only cut
        off, the final observation's value follows.
    - `failed`: True where a number of the step was not finite. Its advantage is 0, as
        if the value of the observation before it had been right.
    - `gamma`: the discount of a step.
    - `gae_lambda`: the decay of the estimate's weights, from one step's error at 0 to
        the whole return at 1.

    Source: J. Schulman et al., High-Dimensional Continuous Control Using Generalized
    Advantage Estimation, arXiv:1506.02438.
    """
    errors = rewards + gamma * jnp.where(terminated, 0.0, next_values) - values
    errors = jnp.where(failed, 0.0, errors)
    decays = jnp.where(over, 0.0, gamma * gae_lambda)

    def back(later: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        error, decay = step
        advantage = error + jnp.where(decay == 0, 0.0, decay * later)
        return advantage, advantage

    start = jnp.zeros_like(errors[0])
    return jax.lax.scan(back, start, (errors, decays), reverse=True, unroll=8)[1]


def following_values(
    values: Float[Array, "steps envs"],
    rows: Experience,
    next_obs: Tree,
    values_of: Callable[[Tree], Float[Array, "some envs"]],
) -> Float[Array, "steps envs"]:
    """Return the values of the observations after each step.

    The value after a step is that before the next one, but at the end of an episode,
    where it is the value of the final observation. That is computed only if an episode
    was cut off, for nothing follows a termination; but always under a `jax.vmap` of the
    user's.

    **Arguments:**

    - `values`: the values of the observations before each step.
    - `rows`: the experience.
    - `next_obs`: its observations after each step, or what else `values_of` takes.
    - `values_of`: returns the values of some of the steps, all or the last one.
    """

    def last() -> Array:
        row = jax.tree.map(lambda leaf: leaf[-1:], next_obs)
        return jnp.concatenate([values[1:], values_of(row)])

    cut_off = jnp.any(rows.truncated & ~rows.terminated & ~rows.failed)
    return jax.lax.cond(anywhere(cut_off), lambda: values_of(next_obs), last)
