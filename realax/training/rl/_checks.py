"""Checks of what reinforcement learning is given."""

import inspect
import math
from typing import Any

import equinox as eqx

from ..._arguments import Check, flag, number, optional, whole
from ..._callables import name_of
from ..._errors import describe
from ..._frozen import identity
from ..._types import PRNGKeyArray
from ...policies import BasePolicy
from ...tasks import EnvTask, GymnasiumTask, make
from ...tasks._rollout import noise_of
from .._checks import check_finite, record
from .._options import RUN_CHECKS


def network(phrase: str, value: Any) -> Any:
    """Check a module, a function `(key) -> module`, or `None`."""
    if value is not None and not callable(value):
        raise TypeError(
            f"{phrase} must be an `equinox.Module`, a function (key) -> module, or "
            f"None, but got {describe(value)}. For example: `lambda key: eqx.nn.MLP("
            "4, 2, 64, 2, key=key)`."
        )
    if value is not None and not isinstance(value, eqx.Module):
        try:
            inspect.signature(value).bind(None)
        except TypeError as error:
            raise TypeError(
                f"{phrase} must be an `equinox.Module` or a function (key) -> module, "
                f"but {name_of(value)} cannot be called with one key ({error}). For "
                "example: `lambda key: eqx.nn.MLP(4, 2, 64, 2, key=key)`."
            ) from error
    return value


def env_task(env: Any) -> EnvTask[Any]:
    """Return the task of an environment, given by name, as a task or as an instance.

    **Raises:** `ValueError` or `TypeError` for a task that cannot be learned from.
    """
    task = env if isinstance(env, EnvTask | GymnasiumTask) else make(env)
    if isinstance(task, GymnasiumTask):
        raise TypeError(
            f"`env` must be an environment that jax can trace, but {task.display_name} "
            "of gymnasium runs on the host, where policies can be evolved: "
            "`rx.evolve(policy, task, key)`."
        )
    if task.data_fn is not None:
        raise ValueError(
            "`env` must be a task without `data_fn`, because learners collect steps "
            "and not whole episodes. Leave it out; `task.rollout(policy, key)` returns "
            "the trajectory of a trained policy."
        )
    if task.model_factory is not identity:
        raise ValueError(
            "`env` must be a task without `model_factory`, because the trained "
            "parameters are the policy itself. Pass the network as `actor`."
        )
    return task


def updates_of(
    name: str,
    total_timesteps: Any,
    train_steps: Any,
    steps_of_update: int,
    before: int = 0,
) -> int:
    """Return the number of updates; `total_timesteps` wins if both are given.

    **Arguments:**

    - `name`: the trainer's name.
    - `total_timesteps`, `train_steps`: as for the trainer.
    - `steps_of_update`: the number of steps that an update plays.
    - `before`: the number of steps that are played before the first update.

    **Raises:** `TypeError` if neither is given, `ValueError` for less than one update.
    """
    if total_timesteps is None:
        if train_steps is None:
            raise TypeError(
                f"`total_timesteps` of `{name}` must be given, how many steps to play: "
                f"`{name}(env, total_timesteps=500_000)`."
            )
        return int(train_steps)
    least = steps_of_update + before
    if total_timesteps < least:
        also = f", and {before} are played before the first one" if before else ""
        raise ValueError(
            f"`total_timesteps` of `{name}` must be at least {least}, but got "
            f"{total_timesteps}. One update plays {steps_of_update} (`num_envs` times "
            f"`num_steps`){also}."
        )
    return math.ceil((total_timesteps - before) / steps_of_update)


def check_given(learner: Any) -> None:
    """Refuse given networks whose numbers, or whose statistics, do not fit.

    **Arguments:**

    - `learner`: the trainer.

    **Raises:** `ValueError` that names the argument and the remedy.
    """
    name, stats = type(learner).__name__, learner.first_stats
    argument, size = next(iter(learner.given)), learner.env.obs_layout.size
    if stats is not None and not learner.env.flatten_obs:
        raise ValueError(
            f"`normalize_obs` of `{name}` needs flat observations, but got a task with "
            "`flatten_obs=False`. Normalise inside the networks instead."
        )
    if stats is not None and stats.mean.shape != (size,):
        raise ValueError(
            f"`{argument}` of `{name}` must have statistics of the task's "
            f"observations, of shape ({size},), but got shape {stats.mean.shape}."
        )
    for argument, network in learner.given.items():
        phrase = f"`{argument}` of `{name}`"
        check_finite(phrase, eqx.filter(network, eqx.is_array))


def check_buffer(
    name: str, batch_size: int, buffer_size: int, learning_starts: int
) -> None:
    """Refuse sizes by which a batch could not be sampled from a replay buffer.

    **Arguments:**

    - `name`: the trainer's name.
    - `batch_size`, `buffer_size`, `learning_starts`: as they were given.

    **Raises:** `ValueError` that names the argument and the remedy.
    """
    if batch_size > buffer_size:
        raise ValueError(
            f"`buffer_size` of `{name}` must be at least `batch_size`, which is "
            f"{batch_size}, but got {buffer_size}."
        )
    if batch_size > learning_starts:
        raise ValueError(
            f"`learning_starts` of `{name}` must be at least `batch_size`, which is "
            f"{batch_size}, so that a batch is stored before learning starts, but got "
            f"{learning_starts}."
        )
    if learning_starts > buffer_size:
        raise ValueError(
            f"`learning_starts` of `{name}` must be at most `buffer_size`, which is "
            f"{buffer_size}, but got {learning_starts}."
        )


def play_one_step(env: EnvTask[Any], player: BasePolicy[Any], key: PRNGKeyArray) -> Any:
    """Play a step. Tracing it refuses networks, actions and rewards that do not fit."""
    rules = env.rules()
    episode = rules.begin(player, key, key)
    noise = noise_of(player, episode, key, episode.length)
    return rules.step(player, episode, noise)[1].reward


def check_minibatches(name: str, count: int, what: str, minibatches: int) -> None:
    """Refuse a number of minibatches that does not divide what is learned from.

    **Arguments:**

    - `name`: the trainer's name.
    - `count`, `what`: how much is learned from, as a number and in words.
    - `minibatches`: the number of minibatches.

    **Raises:** `ValueError`.
    """
    if count % minibatches:
        raise ValueError(
            f"`num_minibatches` of `{name}` must divide {what}, which is {count}, but "
            f"got {minibatches}. Divisors: {_divisors(count)}."
        )


def _divisors(count: int) -> str:
    found = [n for n in range(1, count + 1) if count % n == 0][:8]
    return ", ".join(map(str, found))


# Checks of the arguments that every learner takes.
RL_CHECKS: dict[str, Check] = {
    "total_timesteps": optional(whole()),
    "train_steps": optional(whole()),
    "num_envs": whole(),
    "learning_rate": number(0.0),
    "gamma": number(above=0.0, most=1.0),
    "normalize_obs": flag,
    "record": record,
    **RUN_CHECKS,
}
