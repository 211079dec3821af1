"""Population-based training of PPO, beside a random search of the same cost.

    python benchmarks/population.py [--seeds N] [--steps N] [--members N]

Both train as many members for as many steps, from first values of the learning rate and
the entropy's coefficient that are drawn in the same way; the random search keeps them.
The best member by its last training returns plays 100 fresh episodes. Prints the mean
return of both for each seed. All members of a seed are one program.
"""

import argparse
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import realax as rx


EXPLORE: dict[Any, Any] = {"learning_rate": (1e-5, 1e-1), "ent_coef": (1e-4, 0.3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60, help="updates of each member")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--task", default="Acrobot-v1")
    given = parser.parse_args()
    learner = rx.PPO(given.task, train_steps=given.steps, num_envs=8)
    every = max(1, given.steps // 12)
    population = rx.PopulationBased(learner, given.members, EXPLORE, every=every)
    # It never comes to a selection: the same first values, which then stay.
    search = rx.PopulationBased(learner, given.members, EXPLORE, every=given.steps + 1)
    play = eqx.filter_jit(eqx.filter_vmap(learner.env, in_axes=(None, 0)))
    print(f"jax {jax.__version__}, {jax.devices()[0]}: {given.task}\n")
    print(
        "| seed | random search | population | its learning rate at the end | seconds |"
    )
    print("| --- | --- | --- | --- | --- |")
    found = list[tuple[float, float]]()
    for seed in range(given.seeds):
        start, means = time.perf_counter(), list[float]()
        state: Any = None
        for trainer in (search, population):
            state = trainer.init_and_train_(jr.key(seed))
            keys = jr.split(jr.key(1000 + seed), 100)
            means.append(float(jnp.mean(play(trainer.params(state), keys)[0])))
        rate = float(np.median(np.asarray(state.values["learning_rate"])))
        seconds = time.perf_counter() - start
        cells = f"{means[0]:.1f} | {means[1]:.1f} | {rate:.2g} | {seconds:.0f}"
        print(f"| {seed} | {cells} |", flush=True)
        found.append((means[0], means[1]))
    medians = np.median(np.asarray(found), axis=0)
    print(f"| median | {medians[0]:.1f} | {medians[1]:.1f} | | |")


if __name__ == "__main__":
    main()
