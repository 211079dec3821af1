"""Checks of the sizes that PPO is given."""

import math
from typing import Any

import equinox as eqx
import jax.random as jr


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


def check_sizes(ppo: Any) -> None:
    """Refuse networks that do not fit, and sizes that do not divide.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.
    """
    recurrent = eqx.filter_eval_shape(ppo.model, jr.key(0)).recurrent
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
    if count // ppo.num_minibatches % ppo.n_devices:
        raise ValueError(
            f"a minibatch of `PPO` must be a multiple of `n_devices`, which is "
            f"{ppo.n_devices}, but `num_minibatches={ppo.num_minibatches}` makes it "
            f"{count // ppo.num_minibatches}."
        )


def _divisors(count: int) -> str:
    found = [n for n in range(1, count + 1) if count % n == 0][:8]
    return ", ".join(map(str, found))
