"""Reach every place of a maze: iso-line on kheperax's robot, with small networks.

Shows an environment whose descriptor is where the robot ends, the archive of all places
that were reached, its picture, and the elite that comes nearest to a place, in a new
episode. Needs `pip install "realax[kheperax]"`. Takes about half a minute.
"""

import pathlib

import jax.random as jr

import realax as rx


FOLDER = pathlib.Path("runs")


def main() -> None:
    task = rx.KheperaxTask("standard", target=True)
    obs_dims, action_dims, _ = task.space
    trainer = rx.QDTrainer(
        100,
        task,
        initializer=lambda key: rx.MLPPolicy(obs_dims, action_dims, 8, 1, key=key),
        archive=rx.GridArchive((50, 50), *task.descriptor_bounds),
        emitter=rx.IsoLineEmitter(0.05, 0.2),
        popsize=200,
    )
    state, data = trainer.init_and_train(jr.key(0))
    metrics = data["metrics"]
    for step in 0, 9, 49, 99:
        share, best = metrics["coverage"][step], metrics["best_fitness"][step]
        print(f"step {step + 1:3d}  {share:5.1%} of the maze, best return {best:.1f}")

    # The far corner, behind the walls.
    wanted = [0.15, 0.9]
    policy = state.elite(wanted)
    _, aux = task(policy, jr.key(1))
    print(f"asked for {wanted}: the robot ends at {aux['descriptor']}")

    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / "qd_maze.png"
    rx.plot.archive(state, labels=("x", "y")).savefig(file, dpi=120)
    print("the archive:", file)


if __name__ == "__main__":
    main()
