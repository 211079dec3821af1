"""The table of reinforcement learners that `test_every_learner.py` goes through."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
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


def _small(in_size: int, out_size: Any) -> Any:
    # Smooth ones: the best action of a rectifier network is at one of its kinks.
    return lambda key: eqx.nn.MLP(
        in_size, out_size, 16, 2, activation=jnp.tanh, key=key
    )


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


def _pqn(env: Any, **more: Any) -> Any:
    given: dict[str, Any] = {
        "total_timesteps": 200 * 64,
        "num_envs": 8,
        "num_steps": 8,
        "learning_rate": 0.005,
        "gamma": GAMMA,
        "anneal_lr": True,
        "epsilon_end": 0.2,
        "epsilon_steps": 6400,
        "max_steps": 2,
    }
    given.update(more)
    task = rx.make(env, max_steps=given.pop("max_steps"))
    return rx.PQN(task, **given)


def _off_policy(kind: Callable[..., Any], **own: Any) -> Callable[..., Any]:
    def make(env: Any, **more: Any) -> Any:
        given: dict[str, Any] = {
            "total_timesteps": 200 * 64,
            "num_envs": 8,
            "num_steps": 8,
            "gradient_steps": 8,
            "buffer_size": 1024,
            "batch_size": 64,
            "learning_starts": 64,
            "learning_rate": 0.003,
            "gamma": GAMMA,
            "max_steps": 2,
        }
        given.update(more)
        task = rx.make(env, max_steps=given.pop("max_steps"))
        nets = own.get("nets", lambda task: {})(task)
        fixed = {name: value for name, value in own.items() if name != "nets"}
        return kind(task, **{**fixed, **nets, **given})

    return make


def _actor_critic(outputs: int) -> Callable[[Any], dict[str, Any]]:
    def nets(task: Any) -> dict[str, Any]:
        obs, actions, discrete = task.space
        if discrete:
            return {"actor": _small(obs, actions), "critic": _small(obs, actions)}
        critic = _small(obs + actions, "scalar")
        return {
            "actor": _small(obs, outputs * actions),
            "critic": lambda key: rx.ActionValue(critic(key)),
        }

    return nets


def _q_network(task: Any) -> dict[str, Any]:
    return {"network": _small(*task.space[:2])}


def _greedy_value(trainer: Any, state: Any, obs: Any) -> Any:
    return trainer.params(state)(obs, None, jr.key(0))[0].max()


def _critic_value(trainer: Any, state: Any, obs: Any) -> Any:
    """The first critic's value of the action that the policy plays."""
    action, _ = trainer.params(state)(obs, None, jr.key(0))
    critic = jax.tree.map(
        lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf,
        state.nets.critics.network,
    )
    return critic(obs)[action] if action.shape == () else critic(obs, action)


_DQN = _off_policy(
    rx.DQN,
    nets=_q_network,
    target_every=16,
    tau=1.0,
    epsilon_end=0.2,
    epsilon_steps=6400,
)
_TD3 = _off_policy(rx.TD3, nets=_actor_critic(1), tau=0.05, exploration_noise=0.5)
_DDPG = _off_policy(rx.DDPG, nets=_actor_critic(1), tau=0.05, exploration_noise=0.5)
# Little entropy: its worth is a part of the values.
_SAC = _off_policy(
    rx.SAC,
    nets=_actor_critic(2),
    tau=0.05,
    temperature=0.01,
    tune_temperature=False,
)

LEARNERS = [
    Learner("PPO", _ppo, True, True, _ppo_value),
    Learner("DQN", _DQN, True, False, _greedy_value),
    Learner("PQN", _pqn, True, False, _greedy_value),
    Learner("TD3", _TD3, False, True, _critic_value),
    Learner("DDPG", _DDPG, False, True, _critic_value),
    Learner("SAC", _SAC, True, True, _critic_value),
]
