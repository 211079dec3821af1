"""Checks of the sizes that PPO is given."""

from typing import Any

import equinox as eqx
import jax.random as jr

from ._checks import check_minibatches, play_one_step


def check_sizes(ppo: Any) -> None:
    """Refuse networks that do not fit, and sizes that do not divide.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.
    """

    def played(key: Any) -> Any:
        model = ppo.model(key)
        play_one_step(ppo.env, ppo.player(model, ppo.first_stats), key)
        return model

    recurrent = eqx.filter_eval_shape(played, jr.key(0)).recurrent
    if ppo.num_envs % ppo.n_devices:
        raise ValueError(
            f"`num_envs` of `PPO` must be a multiple of `n_devices`, which is "
            f"{ppo.n_devices}, but got {ppo.num_envs}."
        )
    count, what = ppo.num_envs * ppo.num_steps, "`num_envs` times `num_steps`"
    if recurrent:
        count, what = ppo.num_envs, "`num_envs` (a recurrent network's sequences)"
    check_minibatches("PPO", count, what, ppo.num_minibatches)
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
