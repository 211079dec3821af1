"""Train a policy by PPO, and hand it to evolution: one task object serves both.

Shows that the result of a learner is a policy like any other: it is the start of an
evolution, which needs no gradient and goes on with what is played, the mode. Takes
about half a minute.
"""

import pathlib

import equinox as eqx
import jax.random as jr

import realax as rx


FOLDER = pathlib.Path("runs")


def main() -> None:
    task = rx.make("Acrobot-v1")
    trainer = rx.PPO(task, total_timesteps=90_000)
    state, learned = trainer.init_and_train(jr.key(0))
    policy = trainer.params(state)

    better, _, evolved = rx.evolve(
        policy,
        task,
        jr.key(1),
        strategy="OpenES",
        popsize=32,
        eval_reps=8,
        steps=40,
        es_kws={"std": 0.05, "learning_rate": 0.02},
    )

    play = eqx.filter_jit(eqx.filter_vmap(task, in_axes=(None, 0)))
    keys = jr.split(jr.key(2), 200)
    for name, one in (("PPO", policy), ("PPO, then evolution", better)):
        returns, _ = play(one, keys)
        print(f"{name}: mean return of 200 new episodes {returns.mean():.1f}")

    FOLDER.mkdir(exist_ok=True)
    for name, data, metric in (
        ("ppo", learned, "episode_return"),
        ("evolution", evolved, "mean_fitness"),
    ):
        file = FOLDER / f"acrobot_{name}.png"
        rx.plot.curves(data, [metric]).savefig(file, dpi=120)
        print("learning curve:", file)


if __name__ == "__main__":
    main()
