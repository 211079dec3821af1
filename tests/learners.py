"""The table of reinforcement learners that `test_every_learner.py` goes through."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.random as jr

import realax as rx

from .probes import GAMMA


@dataclasses.dataclass(frozen=True)
class Learner:
    """A learner for the battery.

    - `name`: the name in the tests.
    - `make`: builds it from an environment and further arguments; it solves probes.
    - `discrete`, `continuous`: the action spaces that it can learn in.
    - `value`: returns its estimate of a state's value, of `(trainer, state, obs)`.
    """

    name: str
    make: Callable[..., Any]
    discrete: bool
    continuous: bool
    value: Callable[[Any, Any, Any], Any]


def _ppo(env: Any, **more: Any) -> Any:
    given: dict[str, Any] = {
        "total_timesteps": 200 * 64,
        "num_envs": 8,
        "num_steps": 8,
        # At 0.005, one policy of 30 settles on the wrong action.
        "learning_rate": 0.0025,
        "gamma": GAMMA,
        "anneal_lr": True,
        "ent_coef": 0.0,
        "log_std": -0.5,
        "max_steps": 2,
    }
    given.update(more)
    task = rx.make(env, max_steps=given.pop("max_steps"))
    return rx.PPO(task, **given)


def _ppo_value(trainer: Any, state: Any, obs: Any) -> Any:
    del trainer
    model = state.model
    return model(obs, model.initialize(jr.key(0))).value


LEARNERS = [Learner("PPO", _ppo, True, True, _ppo_value)]
