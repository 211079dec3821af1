"""Trainers and their calls, as users write them."""

from typing import Any

import jax.random as jr
from jaxtyping import Array

import realax as rx


def bowl(params: Array, key: Any, data: Any = None) -> tuple[Array, None]:
    del key, data
    return (params**2).sum(), None


def begin(key: Any) -> Array:
    return jr.normal(key, (2,))


start: Array = begin(jr.key(0))
evolution = rx.EvosaxTrainer(
    5, "SNES", bowl, start, popsize=8.0, n_devices=1.0, callbacks=None, logger=None
)
found: Array = evolution.params(evolution.init_and_train_(jr.key(0)))
gradient = rx.OptaxTrainer(5, "adam", begin, bowl, 0.1, callbacks=[rx.ProgressBar()])
trained: Array = gradient.params(gradient.init_and_train_(jr.key(0)))
evolved, _, _ = rx.evolve(start, bowl, jr.key(0), steps=3, callbacks=None)
optimized, _ = rx.optimize(start, bowl, jr.key(0), steps=3.0, use_scan=False)
both: tuple[Array, Array] = evolved, optimized
shaper = rx.FitnessShaper(maximize=False, w_decay=0.1)


def described(
    params: Array, key: Any, data: Any = None
) -> tuple[Array, dict[str, Array]]:
    return bowl(params, key, data)[0], {"descriptor": params}


explorer = rx.QDTrainer(
    3,
    described,
    start,
    archive=rx.GridArchive((5, 5), lower=(-9, -9), upper=9.0),
    emitter=("iso_line", rx.CMAEmitter("objective", emitters=2)),
    popsize=8.0,
    keep="descriptor",
)
filled, record = explorer.init_and_train(jr.key(0))
elite: Array = filled.elite([0.5, 0.5])
best: Array = explorer.params(filled)
coverage: Array = record["metrics"]["coverage"]
everyone: Array = filled.archive.params
drawn = rx.QDTrainer(
    2,
    described,
    initializer=begin,
    archive=rx.CVTArchive(8, -1.0, 1.0),
    emitter=rx.MultiEmitter((rx.GaussianEmitter(0.1), rx.CMAMAEEmitter()), (10, 20)),
    popsize=30,
)
unbounded: rx.AbstractArchive = rx.UnstructuredArchive(8, 0.5, scale=(1, 2.0))
first: Array = drawn.params(drawn.init_and_train_(jr.key(0)))
