"""rejax's DQN, PQN, TD3 and SAC, in an environment of its own.

`python benchmarks/off_policy_rejax.py DQN 10000` prints the seconds of compilation and
the steps per second as JSON, of so many updates. With `serve` before the two it is a
process that `off_policy_speed.py` asks for trainings. `off_policy_speed.py` also says
how to make the environment.

There is no evaluation in a training here, although rejax has one by default. These
differences remain:

- rejax samples without replacement, by numbers for the whole buffer which it sorts
  at each update; so its time grows with the size of the buffer, and not only with what
  is learned from.
- rejax bootstraps through no truncation, which stores one observation less.
- Gradients of DQN and PQN are clipped number by number.
- PQN values the next observation at each step of a rollout once more.
- TD3 plays `policy_delay` steps, each with an update of the critics, before one update
  of the actor and one of the targets: so the order is the same, but a run is a loop of
  half as many steps. The actor follows the mean of both critics, so that both are
  differentiated where by hand only the first one is. Noise is in the environment's
  unit, hence the factor of 2.
- SAC updates the actor before the critics, and its temperature by a third optimiser.
  Logarithms of deviations are clipped, not squashed. Its first steps are played by the
  new actor, not uniformly at random.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.random as jr
import rejax
from _contest import serve


COMMON: dict[str, Any] = {
    "learning_rate": 1e-3,
    "gamma": 0.99,
    "skip_initial_evaluation": True,
}
REPLAY: dict[str, Any] = {"num_envs": 1, "num_epochs": 1, "fill_buffer": 1_000}
PENDULUM: dict[str, Any] = {
    "env": "Pendulum-v1",
    "buffer_size": 50_000,
    "batch_size": 256,
    "polyak": 0.995,
    "num_critics": 2,
    **REPLAY,
}
# Hidden layers are 64 and 64 for all, which is rejax's default or only size.
NUMBERS: dict[str, dict[str, Any]] = {
    "DQN": {
        "env": "CartPole-v1",
        "agent_kwargs": {"activation": "relu"},
        "buffer_size": 10_000,
        "batch_size": 64,
        "target_update_freq": 500,
        "polyak": 0.0,  # copies
        "ddqn": True,
        "max_grad_norm": 10.0,
        **REPLAY,
    },
    # Its activation is LayerNorm and relu whatever is asked for.
    "PQN": {
        "env": "CartPole-v1",
        "num_envs": 32,
        "num_steps": 32,
        "num_epochs": 4,
        "num_minibatches": 8,
        "td_lambda": 0.65,
        "max_grad_norm": 10.0,
    },
    "TD3": {
        "actor_kwargs": {"activation": "relu"},
        "critic_kwargs": {"activation": "relu"},
        "policy_delay": 2,
        "exploration_noise": 2 * 0.1,
        "target_noise": 2 * 0.2,
        "target_noise_clip": 2 * 0.5,
        **PENDULUM,
    },
    "SAC": {"agent_kwargs": {"activation": "relu"}, **PENDULUM},
}
EPSILON_STEPS = {"DQN": 10_000, "PQN": 50_000}


def timesteps_of(name: str, updates: int) -> int:
    """The steps of a training, of all environments and with those before learning."""
    numbers = NUMBERS[name]
    played = updates * numbers["num_envs"] * numbers.get("num_steps", 1)
    return played + numbers.get("fill_buffer", 0)


def training(name: str, updates: int) -> Callable[[Any], Any]:
    """Build a training as a function of a key, which returns the networks."""
    timesteps = timesteps_of(name, updates)
    numbers = {**COMMON, **NUMBERS[name]}
    if name in EPSILON_STEPS:
        numbers["exploration_fraction"] = EPSILON_STEPS[name] / timesteps
    algo: Any = getattr(rejax, name).create(
        total_timesteps=timesteps, eval_freq=timesteps, **numbers
    )
    algo = algo.replace(eval_callback=lambda algo, state, key: state.global_step)

    def train(key: Any) -> Any:
        state, _ = algo.train(key)
        # The buffer would be copied once more if it were returned.
        parts = ("q_ts", "actor_ts", "critic_ts")
        return [getattr(state, part).params for part in parts if hasattr(state, part)]

    return jax.jit(train)


def main() -> None:
    *serving, name, updates = sys.argv[1:]
    train = training(name, int(updates))
    if serving:
        return serve(train)
    seconds = []
    for seed in range(6):
        start = time.perf_counter()
        jax.block_until_ready(train(jr.key(seed)))
        seconds.append(time.perf_counter() - start)
    usual = statistics.median(seconds[1:])
    row = {
        "algorithm": name,
        "compile_s": seconds[0] - usual,
        "steps_per_s": timesteps_of(name, int(updates)) / usual,
    }
    versions = {name: version(name) for name in ("rejax", "gymnax", "jax")}
    print(json.dumps(row | versions))


if __name__ == "__main__":
    main()
