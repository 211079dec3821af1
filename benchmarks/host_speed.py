"""Tasks on the host: gymnasium in lanes, in workers, and in gymnasium's own vector.

    pip install "realax[host]"
    python benchmarks/host_speed.py [--rounds N] [--case NAME]

- `CartPole-v1`, `LunarLander-v3`: 64 policies, one episode of at most 200 steps each.
  Prints the milliseconds of a generation, and the median ratio of alternating runs in
  one process. `SyncVectorEnv` has the same policies in one compiled call, steps all 64
  environments, and stops as soon as each has ended an episode.
- `loop`: what a generation of OpenES (64 individuals of 100 numbers, with a progress
  bar) takes beyond the calls of a plain function, beside the algorithm driven by hand:
  two functions of `jax.jit` and nothing else.
"""

import argparse
import time
from typing import Any

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _timing import alternate
from evosax.algorithms import Open_ES

import realax as rx


POLICIES, STEPS = 64, 200


class Vector:
    """64 policies in gymnasium's own vector of environments."""

    def __init__(self, name: str, population: Any):
        make = lambda: gymnasium.make(name, disable_env_checker=True)
        self.env = gymnasium.vector.SyncVectorEnv([make] * POLICIES)

        @jax.jit
        def act(obs: Any) -> Any:
            def one(policy: Any, obs: Any) -> Any:
                return jnp.argmax(policy(obs, None, jr.key(0))[0])

            return eqx.filter_vmap(one)(population, obs)

        self.act = act

    def __call__(self, seeds: list[int]) -> Any:
        obs, _ = self.env.reset(seed=seeds)
        total, live = np.zeros(POLICIES), np.ones(POLICIES, bool)
        for _ in range(STEPS):
            obs, reward, terminated, truncated, _ = self.env.step(
                np.asarray(self.act(obs))
            )
            total += reward * live
            live &= ~(terminated | truncated)
            if not live.any():
                break
        return total


def environment(name: str, rounds: int) -> None:
    """Compare the ways to play one generation on an environment."""
    tasks = {
        "in process": rx.GymnasiumTask(name, STEPS),
        "2 workers": rx.GymnasiumTask(name, STEPS, workers=2),
    }
    sizes = tasks["in process"].space[:2]
    make = lambda key: rx.MLPPolicy(*sizes, 32, 2, key=key)
    population = eqx.filter_vmap(make)(jr.split(jr.key(1), POLICIES))
    keys = jr.split(jr.key(2), (POLICIES, 1))
    env_keys = jax.vmap(lambda key: jr.split(key, 3)[0])(keys[:, 0])
    words = np.asarray(jr.key_data(env_keys))[:, -1] & 0x7FFFFFFF
    vector = Vector(name, population)
    runs: dict[str, Any] = {
        label: lambda key, task=task: task.evaluate(population, keys)
        for label, task in tasks.items()
    }
    runs["SyncVectorEnv"] = lambda key: vector(words.tolist())
    values, aux = runs["in process"](None)
    gap = np.abs(np.asarray(values)[:, 0] - runs["SyncVectorEnv"](None)).max()
    steps = int(aux["length"].sum())
    print(f"{name}: {steps} steps; returns differ by at most {gap:.2g}")
    ours, theirs, gain = alternate(
        (runs["in process"], runs["SyncVectorEnv"]), rounds, 1
    )
    two, _, speedup = alternate((runs["2 workers"], runs["in process"]), rounds, 1)
    shown = f"in process {ours * 1e3:.1f} ms, SyncVectorEnv {theirs * 1e3:.1f} ms"
    print(f"  {shown}: {gain:.2f}")
    print(f"  2 workers  {two * 1e3:.1f} ms, in process by this: {speedup:.2f}")
    for task in tasks.values():
        task.close()


def plain(params: Any, seed: int, data: Any = None) -> Any:
    return float(params @ params), None


def loop(rounds: int, generations: int = 300) -> None:
    """Measure what the loop adds to a generation of a plain function."""
    trainer = rx.EvosaxTrainer(
        generations,
        "Open_ES",
        rx.HostTask(plain),
        jnp.ones(100),
        popsize=64,
        progress_bar=True,
    )
    state = trainer.initialize(jr.key(0))
    strategy = Open_ES(population_size=64, solution=jnp.ones(100))
    params = strategy.default_params
    ask = jax.jit(lambda key, state: strategy.ask(key, state, params))
    tell = jax.jit(lambda *given: strategy.tell(*given, params)[0])
    first = strategy.init(jr.key(0), jnp.ones(100), params)

    def by_hand(run_key: Any) -> Any:
        inner = first
        for i in range(generations):
            key = jr.fold_in(run_key, i)
            population, inner = ask(key, inner)
            rows = np.asarray(population)
            fitness = np.array([plain(row, 0)[0] for row in rows], np.float32)
            inner = tell(key, population, fitness, inner)
        return jax.block_until_ready(inner)

    rows = np.ones((64, 100), np.float32)
    start = time.perf_counter()
    for _ in range(generations):
        for row in rows:
            plain(row, 0)
    serial = (time.perf_counter() - start) / generations
    runs = by_hand, lambda key: jax.tree.leaves(trainer.train_(state, key))
    hand, ours, ratio = alternate(runs, rounds, generations)
    print(f"loop: {serial * 1e3:.2f} ms of the function itself; beyond it a generation")
    own, bare = (ours - serial) * 1e3, (hand - serial) * 1e3
    print(f"  takes {own:.2f} ms, by hand {bare:.2f} ms")
    print(f"  whole generations: {ratio:.2f} times as long as by hand")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--case", choices=["CartPole-v1", "LunarLander-v3", "loop"])
    given = parser.parse_args()
    for name in "CartPole-v1", "LunarLander-v3":
        if given.case in (None, name):
            environment(name, given.rounds)
    if given.case in (None, "loop"):
        loop(given.rounds)


if __name__ == "__main__":
    main()
