"""Train PPO with eight seeds in one program, and log a curve for each at wandb.

Shows `rx.Replicated` with a logger: curves have the names of their seeds, a file of
JSON lines holds them too, and a picture shows the median and the quartiles. Without a
login, wandb logs offline, into the folder `wandb`.
"""

import os
import pathlib

import jax.random as jr
import numpy as np

import realax as rx


FOLDER = pathlib.Path("runs")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    logger = rx.Logger(wandb_log=True, log_file=FOLDER / "seeds.jsonl")
    logger.init(
        project="realax",
        group="ppo-cartpole",
        mode="online" if "WANDB_API_KEY" in os.environ else "offline",
    )
    learner = rx.PPO("CartPole-v1", total_timesteps=100_000)
    trainer = rx.Replicated(learner, 8, logger=logger, progress_bar=True)
    _, data = trainer.init_and_train(jr.key(0))
    logger.finish()
    returns = np.asarray(data["metrics"]["episode_return"])[-1]
    low, median, high = np.quantile(returns, [0.0, 0.5, 1.0])
    print(
        f"8 seeds: returns at the end from {low:.0f} to {high:.0f}, median {median:.0f}"
    )
    file = FOLDER / "seeds.png"
    rx.plot.curves(data, "episode_return", lanes=1).savefig(file, dpi=120)
    print("curves:", file)


if __name__ == "__main__":
    main()
