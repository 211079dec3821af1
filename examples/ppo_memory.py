"""Learn to remember: PPO with a recurrent network, on a task that needs memory.

The first observation of a MemoryChain says which action is right at the end, some steps
later. A feed-forward network cannot know it then, and guesses: its mean return is 0. A
recurrent one learns to answer. Takes about 20 seconds.
"""

import pathlib
from typing import Any

import equinox as eqx
import jax.random as jr

import realax as rx


FOLDER = pathlib.Path("runs")
STEPS = 100_000


def main() -> None:
    task = rx.make("MemoryChain-bsuite")
    obs_dims, action_dims, _ = task.space

    def recurrent(out: int) -> Any:
        return lambda key: rx.RNNPolicy(obs_dims, out, 32, key=key)

    trainers = {
        "recurrent": rx.PPO(
            task, STEPS, actor=recurrent(action_dims), critic=recurrent(1)
        ),
        "feed-forward": rx.PPO(task, STEPS),
    }
    play = eqx.filter_jit(eqx.filter_vmap(task, in_axes=(None, 0)))
    FOLDER.mkdir(exist_ok=True)
    for name, trainer in trainers.items():
        state, data = trainer.init_and_train(jr.key(0))
        returns, _ = play(trainer.params(state), jr.split(jr.key(1), 500))
        print(f"{name}: mean return of 500 new episodes {returns.mean():.2f} of 1")
        file = FOLDER / f"memory_{name}.png"
        rx.plot.curves(data, ["episode_return"]).savefig(file, dpi=120)
        print("learning curve:", file)


if __name__ == "__main__":
    main()
