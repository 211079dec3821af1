"""What unstructured archives hold: ours beside qdax's, after the same run.

    pip install "realax[qdax]"
    python benchmarks/qd_unstructured.py [--seeds N]

Prints, for each seed, the number of elites, the QD score, the smallest distance between
two elites, and how many boxes of a 20 x 20 grid they touch, in the case of
`qd_speed.py`: the arm of 12, 1024 cells, a spacing of 0.03, 100 steps of 150.
"""

import argparse

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from qd_speed import unstructured_arm

import realax as rx


STEPS, SIDE = 100, 20


def row(descriptors: np.ndarray, score: float) -> str:
    """Return the columns of a table on some elites."""
    gaps = np.linalg.norm(descriptors[:, None] - descriptors, axis=-1)
    nearest = gaps[~np.eye(len(gaps), dtype=bool)].min()
    grid = rx.GridArchive((SIDE, SIDE), 0.0, 1.0)
    boxes = np.unique(np.asarray(jax.vmap(grid.cell)(jnp.asarray(descriptors))))
    return f"{len(descriptors)} | {score:.0f} | {nearest:.4f} | {len(boxes)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    theirs, ours = unstructured_arm(STEPS)
    print("| seed, archive | elites | QD score | smallest distance | boxes |")
    print("| --- | --- | --- | --- | --- |")
    for seed in range(seeds):
        repertoire, metrics = theirs(jr.key(seed))
        held = np.asarray(repertoire.fitnesses)[:, 0] > -np.inf
        found = np.asarray(repertoire.descriptors)[held]
        score = float(metrics["qd_score"][-1])
        print(f"| {seed}, qdax | {row(found, score)} |", flush=True)
        state, data = ours(jr.key(seed))
        found = np.asarray(state.descriptor)[np.asarray(state.filled)]
        score = float(data["metrics"]["qd_score"][-1])
        print(f"| {seed}, realax | {row(found, score)} |", flush=True)


if __name__ == "__main__":
    main()
