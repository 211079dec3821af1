"""Evolve a policy that lands on the moon, in an environment that jax cannot trace.

gymnasium runs on the host: two processes play the episodes of a generation, while the
algorithm is compiled. Stop it by Ctrl-C and start it again: it goes on where it was.
"""

import pathlib
import sys
import time

import jax.random as jr
import numpy as np

import realax as rx


def main(generations: int = 300, episodes: int = 100, folder: str = "runs/lander"):
    """Train for some generations, and return the mean return of fresh episodes."""
    start = time.perf_counter()
    task = rx.GymnasiumTask("LunarLander-v3", 1000, normalize_obs=True, workers=2)
    with task:
        policy = rx.MLPPolicy(*task.space[:2], width=8, depth=1, key=jr.key(0))
        trainer = rx.EvosaxTrainer(
            generations,
            "CMA_ES",
            task,
            policy,
            popsize=64,
            eval_reps=2,
            callbacks=rx.Checkpointer(folder, every=20),
            progress_bar=True,
        )
        state, data = trainer.init_and_train(jr.key(1))
        trained = trainer.params(state)
        keys = jr.split(jr.key(2), episodes)
        returns = np.array([float(task(trained, key)[0]) for key in keys])

    curve = np.asarray(data["metrics"]["mean_fitness"])
    print(f"mean return of generation 1: {curve[0]:.0f}, of the last: {curve[-1]:.0f}")
    mean, spread = returns.mean(), returns.std()
    print(f"over {episodes} fresh episodes: {mean:.0f} +- {spread:.0f}")
    print(f"{time.perf_counter() - start:.0f} s")
    return mean


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else "runs/lander"
    pathlib.Path(folder).parent.mkdir(parents=True, exist_ok=True)
    main(folder=folder)
