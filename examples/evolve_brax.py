"""Evolve a walking robot: a small network on brax's two-legged walker.

Shows a whole job: a `BraxTask`, a policy, an `EvosaxTrainer` with a progress bar, a
test on new episodes, and files under `runs/`: the policy, its learning curve, and the
robot walking, as a page to open in a browser.
Takes about two minutes on two cores, of which half a minute is compilation.
"""

import pathlib
import sys

import equinox as eqx
import jax.random as jr
import matplotlib.pyplot as plt

import realax as rx


ENV = "walker2d"
FOLDER = pathlib.Path("runs")
GENERATIONS = int(sys.argv[1]) if len(sys.argv) > 1 else 100


def main() -> None:
    task = rx.BraxTask(ENV, max_steps=400, backend="spring")
    obs_dims, action_dims, _ = task.space
    start = rx.MLPPolicy(obs_dims, action_dims, width=32, depth=2, key=jr.key(0))

    trainer = rx.EvosaxTrainer(
        train_steps=GENERATIONS,
        strategy="OpenES",
        task=task,
        params_like=start,
        popsize=128,
        progress_bar=True,
    )
    state, data = trainer.init_and_train(jr.key(1))
    policy = trainer.params(state)

    test = eqx.filter_jit(eqx.filter_vmap(task, in_axes=(None, 0)))
    keys = jr.split(jr.key(2), 32)
    before, after = (test(which, keys)[0].mean() for which in (start, policy))
    print(f"32 new episodes: mean return {before:.0f} before, {after:.0f} after")

    FOLDER.mkdir(exist_ok=True)
    policy_file = FOLDER / f"{ENV}_policy.eqx"
    rx.save_params(policy_file, policy)
    print("policy:", policy_file)
    print("learning curve:", draw(data["metrics"]))
    print("an episode:", task.render(policy, keys[0], FOLDER / f"{ENV}.html"))


def draw(metrics: rx.ESMetrics) -> pathlib.Path:
    """Plot each generation's mean and best individual, and return the file."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(metrics["fitness"].max(axis=1), color="tab:orange", label="best of 128")
    axes.plot(metrics["mean_fitness"], color="tab:blue", label="mean")
    axes.set(xlabel="generation", ylabel="return", title=f"OpenES on brax's {ENV}")
    axes.legend()
    axes.grid(alpha=0.3)
    file = FOLDER / f"{ENV}_learning_curve.png"
    figure.savefig(file, dpi=120)
    return file


if __name__ == "__main__":
    main()
