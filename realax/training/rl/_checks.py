"""Checks of what reinforcement learning is given."""

import inspect
from typing import Any

import equinox as eqx

from ..._arguments import Check, flag, number, optional, whole
from ..._callables import name_of
from ..._errors import describe
from ..._frozen import identity
from ...tasks import EnvTask, make
from .._checks import record
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
    task = env if isinstance(env, EnvTask) else make(env)
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
