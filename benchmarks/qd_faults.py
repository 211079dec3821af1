"""Quality diversity on a task of which one evaluation in ten fails.

    python benchmarks/qd_faults.py [--seeds N]

Prints the mean coverage and QD score, and their deviation over the seeds, of CMA-ME and
iso-line on the sphere of 20 numbers, without faults and with each kind of them.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _qd_tasks import sphere

import realax as rx


_DIMS = 20
# What becomes of the fitness and of the descriptor.
FAULTS: dict[str, tuple[float, float]] = {
    "none": (0.0, 0.0),
    "fitness NaN": (jnp.nan, 0.0),
    "fitness +inf": (jnp.inf, 0.0),
    "fitness -inf": (-jnp.inf, 0.0),
    "fitness 1e30": (1e30, 0.0),
    "descriptor NaN": (0.0, jnp.nan),
    "descriptor inf": (0.0, jnp.inf),
    "descriptor 1e30": (0.0, 1e30),
}


def failing(fault: tuple[float, float]) -> Any:
    inner = sphere(_DIMS)

    def task(x: Any, key: Any, data: Any = None) -> Any:
        value, aux = inner(x, key)
        bad = jr.uniform(key) < 0.1
        value += jnp.where(bad, fault[0], 0.0)
        return value, {"descriptor": aux["descriptor"] + jnp.where(bad, fault[1], 0.0)}

    task.maximize = True  # pyright: ignore[reportFunctionMemberAccess]
    return task


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    seeds = parser.parse_args().seeds
    bound = 5.12 * _DIMS / 2
    print("| emitter | fault | coverage, % | QD score |\n| --- | --- | --- | --- |")
    for emitter in rx.CMAEmitter(emitters=3), rx.IsoLineEmitter(0.1, 0.2):
        for name, fault in FAULTS.items():
            trainer = rx.QDTrainer(
                2000,
                failing(fault),
                jnp.zeros(_DIMS),
                archive=rx.GridArchive((50, 50), -bound, bound),
                emitter=emitter,
                popsize=36,
            )
            keys = jr.split(jr.key(0), seeds)
            _, data = jax.vmap(trainer.init_and_train)(keys)
            cells = 100 * np.asarray(data["metrics"]["coverage"][:, -1])
            scores = np.asarray(data["metrics"]["qd_score"][:, -1])
            print(
                f"| {type(emitter).__name__} | {name} | {cells.mean():.1f} ± "
                f"{cells.std():.1f} | {scores.mean():,.0f} ± {scores.std():,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
