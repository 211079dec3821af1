"""Walks that use their feet differently: MAP-Elites on brax's walker2d.

Shows a descriptor that is folded while episodes are played, a first population of
networks, an archive of gaits, their picture, and one of them as a page that shows it
walk. Takes three to five minutes on two cores. A smaller number of generations, as an
argument, takes less: `python examples/qd_walker.py 5`.
"""

import pathlib
import sys

import jax.numpy as jnp
import jax.random as jr

import realax as rx


FOLDER = pathlib.Path("runs")
# The numbers of the feet among the walker's links.
FEET = jnp.array([3, 6])
# Meters. A foot that stands floats by less than a tenth of a millimeter.
NEAR = 0.001
STEPS = 200
GENERATIONS = int(sys.argv[1]) if len(sys.argv) > 1 else 60


def feet_contact(env_state, info):
    """Return which of the feet touch the ground. Brax says it with `debug`."""
    contact = env_state.pipeline_state.contact
    of_foot = contact.link_idx[1][:, None] == FEET
    return jnp.any(of_foot & (contact.dist[:, None] < NEAR), axis=0)


def main() -> None:
    task = rx.BraxTask(
        "walker2d",
        max_steps=STEPS,
        env_kwargs={"debug": True},
        descriptor=rx.MeanOf(feet_contact),
    )
    obs_dims, action_dims, _ = task.space
    trainer = rx.QDTrainer(
        GENERATIONS,
        task,
        initializer=lambda key: rx.MLPPolicy(obs_dims, action_dims, 16, 1, key=key),
        archive=rx.GridArchive((10, 10), lower=0.0, upper=1.0),
        emitter=rx.IsoLineEmitter(0.02, 0.2),
        popsize=64,
        keep="length",
        progress_bar=True,
    )
    state, data = trainer.init_and_train(jr.key(0))
    metrics = data["metrics"]
    for step in 0, GENERATIONS // 3, GENERATIONS - 1:
        share, best = metrics["coverage"][step], metrics["best_fitness"][step]
        print(f"step {step + 1:3d}  {share:4.0%} of the cells, best return {best:.0f}")

    length = state.archive.extras["length"]
    print("gaits that last to the end:", int(jnp.sum(state.filled & (length == STEPS))))
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / "qd_walker.png"
    labels = "right foot on the ground", "left foot on the ground"
    rx.plot.archive(state, labels=labels).savefig(file, dpi=120)
    print("the archive:", file)

    # A walk that hops on its left foot.
    hopper = state.elite([0.1, 0.6])
    value, aux = task(hopper, jr.key(1))
    print(f"asked for feet {[0.1, 0.6]}: in a new episode {aux['descriptor']}")
    print(f"its return: {value:.0f}, in {aux['length']} steps")
    print("watch it:", task.render(hopper, jr.key(1), FOLDER / "qd_walker.html"))


if __name__ == "__main__":
    main()
