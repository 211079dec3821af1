"""rejax's PPO on CartPole-v1, in an environment of its own. See `ppo_speed.py`.

`python benchmarks/ppo_rejax.py` prints the seconds of compilation and the steps per
second as JSON. With `serve` and a number of steps it is a process that `ppo_speed.py`
asks for trainings.

There is no evaluation in a training here, although rejax has one by default. What
remains of the difference makes rejax's update a little cheaper: it clips gradients
number by number, and values nothing at truncation.
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
from _contest import serve
from _ppo_numbers import EPOCHS, NUMBERS
from rejax import PPO


def training(timesteps: int) -> Callable[[Any], Any]:
    """Build a training as a function of a key, which returns both networks."""
    algo = PPO.create(
        env="CartPole-v1",
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
        num_epochs=EPOCHS,
        total_timesteps=timesteps,
        eval_freq=timesteps,
        skip_initial_evaluation=True,
        max_grad_norm=0.5,
        gamma=0.99,
        gae_lambda=0.95,
        clip_eps=0.2,
        vf_coef=0.5,
        **NUMBERS,
    )
    algo = algo.replace(eval_callback=lambda algo, state, key: state.global_step)

    def train(key: Any) -> Any:
        state, _ = algo.train(key)
        return state.actor_ts.params, state.critic_ts.params

    return jax.jit(train)


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        return serve(training(int(sys.argv[2])))
    timesteps, seconds = 245 * 2048, []
    train = training(timesteps)
    for seed in range(6):
        start = time.perf_counter()
        jax.block_until_ready(train(jr.key(seed)))
        seconds.append(time.perf_counter() - start)
    usual = statistics.median(seconds[1:])
    row = {"compile_s": seconds[0] - usual, "steps_per_s": timesteps / usual}
    versions = {name: version(name) for name in ("rejax", "gymnax", "jax")}
    print(json.dumps(row | versions))


if __name__ == "__main__":
    main()
