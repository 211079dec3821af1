"""Checks of the sizes that PPO is given."""

import math
from typing import Any

import equinox as eqx
import jax.random as jr

from ...tasks._rollout import noise_of
from .._checks import check_finite


def updates_of(total_timesteps: Any, train_steps: Any, steps_of_update: int) -> int:
    """Return the number of updates; `total_timesteps` wins if both are given.

    **Raises:** `TypeError` if neither is given, `ValueError` for less than one update.
    """
    if total_timesteps is None:
        if train_steps is None:
            raise TypeError(
                "`total_timesteps` of `PPO` must be given, how many steps to play: "
                "`PPO(env, total_timesteps=500_000)`."
            )
        return int(train_steps)
    if total_timesteps < steps_of_update:
        raise ValueError(
            f"`total_timesteps` of `PPO` must be at least {steps_of_update}, which one "
            f"update plays (`num_envs` times `num_steps`), but got {total_timesteps}."
        )
    return math.ceil(total_timesteps / steps_of_update)


def check_obs(ppo: Any) -> None:
    """Refuse statistics of observations that are not flat, or of another size.

    **Raises:** `ValueError` that names the argument and the remedy.
    """
    if not ppo.normalize_obs:
        return
    if not ppo.env.flatten_obs:
        raise ValueError(
            "`normalize_obs` of `PPO` needs flat observations, but got a task with "
            "`flatten_obs=False`. Normalise inside the networks instead."
        )
    stats, size = ppo.first_stats, ppo.env.obs_layout.size
    if stats.mean.shape != (size,):
        raise ValueError(
            "`actor` of `PPO` must have statistics of the task's observations, of "
            f"shape ({size},), but got shape {stats.mean.shape}."
        )


def check_sizes(ppo: Any) -> None:
    """Refuse networks that do not fit, and sizes that do not divide.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.
    """
    for name in ("actor", "critic"):
        network = getattr(ppo, name)
        check_finite(f"`{name}` of `PPO`", eqx.filter(network, eqx.is_array))
    model = eqx.filter_eval_shape(ppo.model, jr.key(0))
    recurrent = model.recurrent
    eqx.filter_eval_shape(_one_step, ppo, jr.key(0))
    if ppo.num_envs % ppo.n_devices:
        raise ValueError(
            f"`num_envs` of `PPO` must be a multiple of `n_devices`, which is "
            f"{ppo.n_devices}, but got {ppo.num_envs}."
        )
    count, what = ppo.num_envs * ppo.num_steps, "`num_envs` times `num_steps`"
    if recurrent:
        count, what = ppo.num_envs, "`num_envs` (a recurrent network's sequences)"
    if count % ppo.num_minibatches:
        raise ValueError(
            f"`num_minibatches` of `PPO` must divide {what}, which is {count}, but got "
            f"{ppo.num_minibatches}. Divisors: {_divisors(count)}."
        )
    alone = count == ppo.num_minibatches and not recurrent
    if alone and ppo.normalize_advantages:
        raise ValueError(
            "`normalize_advantages` of `PPO` needs minibatches of more than one step, "
            f"but `num_minibatches={ppo.num_minibatches}` leaves one in each. Take "
            "fewer, or switch it off."
        )
    if count // ppo.num_minibatches % ppo.n_devices:
        raise ValueError(
            f"a minibatch of `PPO` must be a multiple of `n_devices`, which is "
            f"{ppo.n_devices}, but `num_minibatches={ppo.num_minibatches}` makes it "
            f"{count // ppo.num_minibatches}."
        )


def _one_step(ppo: Any, key: Any) -> Any:
    """Play a step. Tracing it refuses networks, actions and rewards that do not fit."""
    player, rules = ppo.player(ppo.model(key), ppo.first_stats), ppo.env.rules()
    episode = rules.begin(player, key, key)
    noise = noise_of(player, episode, key, episode.length)
    return rules.step(player, episode, noise)[1].reward


def _divisors(count: int) -> str:
    found = [n for n in range(1, count + 1) if count % n == 0][:8]
    return ", ".join(map(str, found))
