"""What DQN, PQN, TD3, DDPG and SAC learn: ten seeds, tested on fresh episodes.

    python benchmarks/off_policy_learning.py [--only CASE ...] [--seeds N] [--scale S]

Prints the median and the quartiles, over seeds, of the mean return of 100 episodes that
training has not seen, played by the deterministic policy; and how many seeds reach the
mark. All seeds of a case are one compiled program. All networks have two hidden layers
of 64. `--scale 0.01` trains for a hundredth of the steps, to see that a case runs.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from ppo_learning import Case, show

import realax as rx


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained(Case):
    """A task to learn, and by what.

    - `learner`: makes the trainer, from the task, the number of steps and settings.
    - `networks`: returns the networks as settings, from the numbers of observations and
        of actions.
    """

    learner: Callable[..., Any]
    networks: Callable[[int, int], dict[str, Any]]


def mlp(inputs: int, outputs: Any) -> Callable[[Any], Any]:
    """A function that makes a network of two hidden layers of 64 with rectifiers."""
    return lambda key: eqx.nn.MLP(inputs, outputs, 64, 2, key=key)


def action_value(obs: int, actions: int) -> Callable[[Any], Any]:
    """A function that makes a critic of observations and actions."""
    make = mlp(obs + actions, "scalar")
    return lambda key: rx.ActionValue(make(key))


def for_scores(obs: int, actions: int) -> dict[str, Any]:
    """The network of DQN."""
    return {"network": mlp(obs, actions)}


def default(obs: int, actions: int) -> dict[str, Any]:
    """No settings: PQN's own network is as wide, and normalises its features."""
    del obs, actions
    return {}


def for_choices(obs: int, actions: int) -> dict[str, Any]:
    """The networks of SAC for choices."""
    return {"actor": mlp(obs, actions), "critic": mlp(obs, actions)}


def for_means(obs: int, actions: int) -> dict[str, Any]:
    """The networks of TD3 and DDPG."""
    return {"actor": mlp(obs, actions), "critic": action_value(obs, actions)}


def for_normals(obs: int, actions: int) -> dict[str, Any]:
    """The networks of SAC for continuous actions, of which each has two scores."""
    return {"actor": mlp(obs, 2 * actions), "critic": action_value(obs, actions)}


def cartpole() -> Any:
    return rx.make("CartPole-v1")


def pendulum() -> Any:
    return rx.make("Pendulum-v1")


def inverted_pendulum() -> Any:
    # On the spring physics, forces that follow the velocities do not dampen.
    return rx.make("inverted_pendulum", backend="generalized")


CASES = {
    "DQN-CartPole": Trained(
        cartpole, 200_000, 400, learner=rx.DQN, networks=for_scores
    ),
    "PQN-CartPole": Trained(cartpole, 500_000, 475, learner=rx.PQN, networks=default),
    "PQN-CartPole-annealed": Trained(
        cartpole,
        500_000,
        475,
        learner=rx.PQN,
        networks=default,
        kws={"anneal_lr": True},
    ),
    "SAC-CartPole": Trained(
        cartpole, 100_000, None, learner=rx.SAC, networks=for_choices
    ),
    "SAC-Pendulum": Trained(
        pendulum, 50_000, -200, learner=rx.SAC, networks=for_normals
    ),
    "TD3-Pendulum": Trained(pendulum, 50_000, -200, learner=rx.TD3, networks=for_means),
    "DDPG-Pendulum": Trained(
        pendulum, 50_000, -200, learner=rx.DDPG, networks=for_means
    ),
    "SAC-inverted_pendulum": Trained(
        inverted_pendulum,
        50_000,
        1000,
        learner=rx.SAC,
        networks=for_normals,
    ),
    "TD3-inverted_pendulum": Trained(
        inverted_pendulum,
        50_000,
        1000,
        learner=rx.TD3,
        networks=for_means,
    ),
}
EPISODES = 100
# A trainer with a replay buffer plays 1000 random steps before it learns, and an update
# of PQN plays 1024.
LEAST = 1100


def learn(case: Trained) -> tuple[np.ndarray, float]:
    """The mean test return of each seed, and the seconds with compilation."""
    task = case.make()
    networks = case.networks(*task.space[:2])
    trainer = case.learner(task, case.steps, **networks, **case.kws)

    def run(key: Any) -> Any:
        policy = trainer.params(trainer.init_and_train_(key))
        keys = jr.split(jr.fold_in(key, 2**31 - 1), EPISODES)
        return jnp.mean(jax.vmap(lambda key: trainer.env(policy, key)[0])(keys))

    start = time.perf_counter()
    returns = jax.jit(jax.vmap(run))(jr.split(jr.key(0), case.seeds))
    returns = np.asarray(jax.block_until_ready(returns))
    return returns, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=[*CASES])
    parser.add_argument("--seeds", type=int, help="how many, in place of ten or three")
    parser.add_argument("--scale", type=float, default=1.0, help="the share of steps")
    given = parser.parse_args()
    print(f"on {jax.devices()[0].device_kind}, with compilation and test:")
    print("| task | steps | median | quartiles | worst | mark | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in given.only:
        case = CASES[name]
        case = dataclasses.replace(
            case,
            steps=max(LEAST, round(case.steps * given.scale)),
            seeds=given.seeds or case.seeds,
        )
        show(name.replace("-", ", "), case, *learn(case))


if __name__ == "__main__":
    main()
