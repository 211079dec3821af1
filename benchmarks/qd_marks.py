"""Published marks of quality diversity: ten seeds each.

    python benchmarks/qd_marks.py [--seeds N] [--case NAME]

Prints the median and the quartiles of the coverage, or the number of cells, and of the
QD score, beside the mark and its source. `--case iso` compares iso-line's QD score with
that of qdax's MAP-Elites and needs `pip install "realax[qdax]"`.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _qd_tasks import arm, sphere

import realax as rx


def arm_12() -> Any:
    archive = rx.CVTArchive(10_000, -12.0, 12.0)
    settings = {"emitter": "cma_me", "popsize": 150, "qd_offset": 10.0}
    return rx.QDTrainer(700, arm, jnp.zeros(12), archive=archive, **settings)


def spheres(dims: int, side: int, steps: int, emitter: Any, size: int) -> Any:
    bound = 5.12 * dims / 2
    return rx.QDTrainer(
        steps,
        sphere(dims),
        jnp.zeros(dims),
        archive=rx.GridArchive((side, side), -bound, bound),
        emitter=emitter,
        popsize=getattr(emitter, "emitters", 1) * size,
    )


def maze() -> Any:
    task = rx.KheperaxTask("standard", target=True, max_steps=250)
    sizes = task.space

    def policy(key: Any) -> Any:
        return rx.MLPPolicy(sizes.obs_dims, sizes.action_dims, 8, 1, key=key)

    return rx.QDTrainer(
        511,
        task,
        initializer=policy,
        archive=rx.GridArchive((50, 50), *task.descriptor_bounds),
        emitter=rx.IsoLineEmitter(0.05, 0.2),
        popsize=200,
    )


# How to make the trainer, and the mark.
CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "arm of 12, CMA-ME, 700 x 150": (arm_12, "7800 cells; pyribs 7928"),
    "sphere of 20, CMA-ME, 2000 x 36": (
        lambda: spheres(20, 50, 2000, rx.CMAEmitter(emitters=3), 12),
        "70 %, 140,000",
    ),
    "sphere of 100, CMA-ME, 5000 x 540": (
        lambda: spheres(100, 100, 5000, rx.CMAEmitter(emitters=15), 36),
        "46.5 %, 39.5 a cell, pyribs",
    ),
    "sphere of 100, CMA-MAE, 5000 x 540": (
        lambda: spheres(100, 100, 5000, rx.CMAMAEEmitter(0.01, 0, emitters=15), 36),
        "79.0 %, 61.2 a cell, pyribs",
    ),
    "sphere of 100, CMA-MEGA, 1000 x 37": (
        lambda: spheres(100, 100, 1000, rx.CMAMEGAEmitter(sigma=10.0), 37),
        "80 %; qdax 62 to 66 %",
    ),
    "sphere of 100, OMG-MEGA, 1000 x 36": (
        lambda: spheres(100, 100, 1000, rx.OMGMEGAEmitter(10.0), 36),
        "-",
    ),
    "Kheperax target, iso-line, 102,400 episodes": (maze, "40 %"),
}


def shown(numbers: Any, digits: int) -> str:
    low, median, high = np.quantile(np.asarray(numbers), [0.25, 0.5, 0.75])
    return f"{median:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def iso_line(seeds: int) -> None:
    """Compare iso-line's QD score with that of bare MAP-Elites, 700 x 150."""
    import qd_speed

    archive = rx.CVTArchive(1024, 0.0, 1.0)
    bare = qd_speed.arm_of_qdax(12, archive.centroids, 150, 700)
    trainer = qd_speed.arm_trainer(12, archive, 150, 700)
    found = list[list[float]]()
    for seed in range(seeds):
        _, metrics = bare(jr.key(seed))
        _, data = trainer.init_and_train(jr.key(seed))
        scores = metrics["qd_score"][-1], data["metrics"]["qd_score"][-1]
        found.append(list(map(float, scores)))
    for name, scores in zip(("qdax", "realax"), np.asarray(found).T, strict=True):
        print(f"iso-line, {name}: {scores.mean():.1f}, deviation {scores.std():.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--case", default="")
    given = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()}\n")
    if given.case == "iso":
        return iso_line(given.seeds)
    print("| case | mark | cells | coverage, % | QD score | a cell | s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, (make, mark) in CASES.items():
        if given.case not in name:
            continue
        trainer, rows, start = make(), list[Any](), time.perf_counter()
        for seed in range(given.seeds):
            state, data = trainer.init_and_train(jr.key(seed))
            score = float(data["metrics"]["qd_score"][-1])
            rows.append((int(state.filled.sum()), score))
        cells, scores = np.asarray(rows).T
        number = trainer.archive.cells
        seconds = (time.perf_counter() - start) / given.seeds
        print(
            f"| {name} | {mark} | {shown(cells, 0)} | {shown(100 * cells / number, 1)} "
            f"| {shown(scores, 0)} | {shown(scores / number, 1)} | {seconds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
