"""What PPO learns: ten seeds side by side, tested on fresh episodes.

    python benchmarks/ppo_learning.py [case ...]

Prints the median and the quartiles, over seeds, of the mean return of 128 episodes that
training has not seen, played by the mode of the policy; and how many seeds reach the
mark. All seeds of a case are one compiled program, so that an accelerator trains them
in the time of one. `ant` and `halfcheetah` run where there is one, beside brax's own
PPO (`brax.training`) with the settings of brax's examples.
"""

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import realax as rx


class MinAtarNet(eqx.Module):
    """An actor and a critic that share a convolution, for images of 10 by 10 pixels."""

    conv: eqx.nn.Conv2d
    hidden: eqx.nn.Linear
    heads: eqx.nn.Linear

    def __init__(self, channels: int, actions: int, key: Any):
        conv_key, hidden_key, head_key = jr.split(key, 3)
        self.conv = eqx.nn.Conv2d(channels, 16, 3, key=conv_key)
        self.hidden = eqx.nn.Linear(16 * 8 * 8, 128, key=hidden_key)
        self.heads = eqx.nn.Linear(128, actions + 1, key=head_key)

    def __call__(self, obs: Any) -> Any:
        x = jax.nn.relu(self.conv(jnp.moveaxis(obs, -1, 0)))
        out = self.heads(jax.nn.relu(self.hidden(jnp.ravel(x))))
        return out[:-1], out[-1]


@dataclasses.dataclass(frozen=True)
class Case:
    """A task to learn.

    - `make`: makes the task.
    - `steps`: the number of environment steps.
    - `mark`: the return to reach, if there is one.
    - `kws`: the settings of PPO that differ from its defaults.
    - `seeds`: how many.
    - `accelerated`: whether it is only tried on an accelerator.
    """

    make: Callable[[], Any]
    steps: int
    mark: float | None
    kws: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    seeds: int = 10
    accelerated: bool = False


_SCALED = {"normalize_obs": True, "scale_rewards": True, "ent_coef": 0.0}
_MANY: dict[str, Any] = {
    "num_envs": 2048,
    "num_minibatches": 32,
    "normalize_obs": True,
    "scale_rewards": True,
}
CASES = {
    "CartPole": Case(
        lambda: rx.make("CartPole-v1"), 500_000, 475, {"scale_rewards": True}
    ),
    "CartPole-defaults": Case(lambda: rx.make("CartPole-v1"), 500_000, 475),
    "Acrobot": Case(lambda: rx.make("Acrobot-v1"), 1_000_000, -100),
    "Pendulum": Case(lambda: rx.make("Pendulum-v1"), 1_000_000, -200, _SCALED),
    "MountainCarContinuous": Case(
        lambda: rx.make("MountainCarContinuous-v0"), 1_000_000, 80, _SCALED
    ),
    "Breakout": Case(
        lambda: rx.make("Breakout-MinAtar", flatten_obs=False),
        10_000_000,
        8,
        {
            "num_envs": 64,
            "num_minibatches": 8,
            "learning_rate": 2.5e-3,
            "actor": lambda key: MinAtarNet(4, 3, key),
        },
        3,
    ),
    "inverted_pendulum": Case(
        lambda: rx.make("inverted_pendulum", backend="spring"),
        1_000_000,
        990,
        {
            **_SCALED,
            "num_envs": 64,
            "num_minibatches": 8,
            "learning_rate": 3e-4,
            "log_std": -1.0,
        },
        3,
    ),
    "ant": Case(
        lambda: rx.make("ant", backend="spring"),
        10_000_000,
        None,
        {**_MANY, "num_steps": 10, "gamma": 0.97},
        3,
        accelerated=True,
    ),
    "halfcheetah": Case(
        lambda: rx.make("halfcheetah", backend="spring"),
        10_000_000,
        None,
        {**_MANY, "num_steps": 20, "gamma": 0.95, "ent_coef": 0.0},
        3,
        accelerated=True,
    ),
}
EPISODES = 128


def learn(case: Case) -> tuple[np.ndarray, float]:
    """The mean test return of each seed, and the seconds with compilation."""
    trainer = rx.PPO(case.make(), case.steps, **case.kws)
    task = trainer.env

    def run(key: Any) -> Any:
        policy = trainer.params(trainer.init_and_train_(key))
        keys = jr.split(jr.fold_in(key, 2**31 - 1), EPISODES)
        return jnp.mean(jax.vmap(lambda key: task(policy, key)[0])(keys))

    start = time.perf_counter()
    returns = jax.jit(jax.vmap(run))(jr.split(jr.key(0), case.seeds))
    returns = np.asarray(jax.block_until_ready(returns))
    return returns, time.perf_counter() - start


# The settings of brax's examples for these environments, with fewer steps.
_BRAX: dict[str, dict[str, Any]] = {
    "ant": {
        "reward_scaling": 10,
        "unroll_length": 5,
        "num_updates_per_batch": 4,
        "discounting": 0.97,
        "entropy_cost": 1e-2,
        "num_envs": 4096,
        "batch_size": 2048,
    },
    "halfcheetah": {
        "reward_scaling": 1,
        "unroll_length": 20,
        "num_updates_per_batch": 8,
        "discounting": 0.95,
        "entropy_cost": 0.001,
        "num_envs": 2048,
        "batch_size": 512,
    },
}


def _replicated(tree: Any, devices: Any) -> Any:
    """A tree whose arrays are repeated along a new first axis, for `jax.pmap`."""
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * len(devices)), tree)


def learn_by_brax(name: str, case: Case) -> tuple[np.ndarray, float]:
    """The same of brax's own PPO, seed after seed."""
    from brax import envs
    from brax.training.agents.ppo import train as ppo

    # brax 0.14.2 calls a function that jax 0.11 no longer has.
    jax.device_put_replicated = _replicated
    returns, start = list[float](), time.perf_counter()
    for seed in range(case.seeds):
        _, _, metrics = ppo.train(
            environment=envs.get_environment(name, backend="spring"),
            num_timesteps=case.steps,
            num_evals=2,
            episode_length=1000,
            normalize_observations=True,
            num_minibatches=32,
            learning_rate=3e-4,
            num_eval_envs=EPISODES,
            deterministic_eval=True,
            seed=seed,
            **_BRAX[name],
        )
        returns.append(float(metrics["eval/episode_reward"]))
    return np.asarray(returns), time.perf_counter() - start


def show(name: str, case: Case, returns: np.ndarray, seconds: float) -> None:
    low, median, high = np.quantile(returns, [0.25, 0.5, 0.75])
    reached = "-"
    if case.mark is not None:
        count = int(np.sum(returns >= case.mark))
        reached = f"{count} of {case.seeds} reach {case.mark:g}"
    print(
        f"| {name} | {case.steps:,} | {median:.1f} | {low:.1f} to {high:.1f} | "
        f"{returns.min():.1f} | {reached} | {seconds:.0f} |",
        flush=True,
    )


def main(chosen: list[str]) -> None:
    accelerated = jax.default_backend() != "cpu"
    print(f"on {jax.devices()[0].device_kind}, with compilation and test:")
    print("| task | steps | median | quartiles | worst | mark | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in chosen or CASES:
        case = CASES[name]
        if case.accelerated and not (accelerated or chosen):
            continue
        show(name, case, *learn(case))
        if name in _BRAX:
            show(f"{name}, brax's PPO", case, *learn_by_brax(name, case))


if __name__ == "__main__":
    main(sys.argv[1:])
