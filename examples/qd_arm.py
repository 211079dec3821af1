"""Reach every place with an arm: CMA-ME fills an archive of ten thousand cells.

Shows a task with a descriptor, an archive of Voronoi cells, an emitter by name, the
elite nearest to a place, and a picture of the archive. Takes about ten seconds.
"""

import pathlib

import jax
import jax.numpy as jnp
import jax.random as jr

import realax as rx


FOLDER = pathlib.Path("runs")
JOINTS = 12


def hand(angles):
    """Return where the hand of an arm with joints at equal distances is."""
    total = jnp.cumsum(angles)
    return jnp.stack([jnp.sum(jnp.cos(total)), jnp.sum(jnp.sin(total))])


def task(angles, key, data=None):
    """Return how unequally the arm is bent, to be minimised, and where its hand is."""
    return jnp.var(angles), {"descriptor": hand(angles)}


def main() -> None:
    trainer = rx.QDTrainer(
        700,
        task,
        jnp.zeros(JOINTS),
        archive=rx.CVTArchive(10_000, lower=-JOINTS, upper=JOINTS, dims=2),
        emitter="cma_me",
        popsize=150,
        # No variance is above 10 here, so that each filled cell counts.
        qd_offset=10.0,
    )
    state, data = trainer.init_and_train(jr.key(0))
    metrics = data["metrics"]
    for step in 0, 99, 299, 699:
        share, score = metrics["coverage"][step], metrics["qd_score"][step]
        print(f"step {step + 1:3d}  {share:6.1%} of the cells, QD score {score:.0f}")

    wanted = jnp.array([3.0, 4.0])
    angles = state.elite(wanted)
    print(f"the elite nearest to {wanted} reaches {hand(angles)}")

    reachable = jnp.linalg.norm(trainer.archive.centroids, axis=1) < JOINTS
    filled = jnp.mean(state.filled[reachable])
    print(f"of the cells that the arm can reach, {filled:.1%} have an elite")
    far = jax.vmap(hand)(state.archive.params[state.filled])
    print(f"the farthest elite reaches {jnp.linalg.norm(far, axis=1).max():.2f}")

    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / "qd_arm.png"
    rx.plot.archive(state, labels=("x", "y")).savefig(file, dpi=120)
    print("the archive:", file)


if __name__ == "__main__":
    main()
