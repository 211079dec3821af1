"""Compare learning rates with several seeds each, in one compiled program.

Shows `rx.sweep`: 32 trainings of a small classifier on two spirals side by side, their
table, the best one, and a picture of the curves with their spread over seeds.
"""

import pathlib

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np

import realax as rx


FOLDER = pathlib.Path("runs")
RATES = np.logspace(-4, 0, 8)
SEEDS = 4


def spirals(key, count=400):
    turn_key, noise_key, side_key = jr.split(key, 3)
    turn = 3 * jnp.sqrt(jr.uniform(turn_key, (count,)))
    side = jr.bernoulli(side_key, 0.5, (count,))
    angle = jnp.pi * (turn + side)
    points = turn[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    return points + 0.1 * jr.normal(noise_key, points.shape), side


def model(key):
    return rx.MLPPolicy(2, 1, 32, 2, key=key)


def loss(network, key, data):
    points, side = data
    logits = jax.vmap(lambda x: network(x, None, key)[0][0])(points)
    return jnp.mean(jax.nn.softplus(jnp.where(side, -logits, logits))), None


def main() -> None:
    single = rx.OptaxTrainer(500, "adam", model, rx.Minibatch(loss, 100), 1e-3)
    trainer = rx.sweep(single, {"learning_rate": RATES}, seeds=SEEDS, progress_bar=True)
    state, data = trainer.init_and_train(jr.key(0), spirals(jr.key(1)))
    best = trainer.best(state, data)
    print(trainer.table(data))
    print(f"{trainer.n} trainings; the best: {trainer.lanes[best.lane]}")
    error, _ = loss(best.params, jr.key(2), spirals(jr.key(3)))
    print(f"its loss on new points: {error:.3f}")

    curves = np.asarray(data["metrics"]["loss"]).reshape(500, len(RATES), SEEDS)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for i, rate in enumerate(RATES):
        color = plt.colormaps["viridis"](i / len(RATES))
        axes.plot(np.median(curves[:, i], -1), color=color, label=f"{rate:.2g}")
        ends = curves[:, i].min(-1), curves[:, i].max(-1)
        axes.fill_between(np.arange(500), *ends, color=color, alpha=0.2, lw=0)
    axes.set(xlabel="step", ylabel="loss", yscale="log", ylim=(1e-4, 10))
    axes.legend(title="learning rate", ncols=2)
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / "sweep_learning_rates.png"
    figure.savefig(file, dpi=120)
    print("curves:", file)


if __name__ == "__main__":
    main()
