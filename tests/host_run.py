"""A script without a `__main__` guard that trains on the host; tests kill it.

Its arguments are a folder, a backend and a number of generations. While the folder has
a file `hang`, each evaluation takes for ever.
"""

import os
import signal
import sys
import time

import jax.numpy as jnp
import jax.random as jr
import numpy as np

import realax as rx


# A shell starts what it puts into the background with this signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder, backend, steps = sys.argv[1:4]
hang = os.path.join(folder, "hang")


def loss(params, seed, data=None):
    while os.path.exists(hang):
        time.sleep(0.01)
    noise = np.random.default_rng(seed).normal()
    return np.sum((params["gains"] - 1) ** 2) + 0.1 * noise, None


task = rx.HostTask(loss, workers=2, backend=backend)  # pyright: ignore
_, state, data = rx.evolve(
    {"gains": jnp.zeros(4)},
    task,
    jr.key(0),
    strategy="CMA_ES",
    steps=int(steps),
    popsize=8,
    callbacks=rx.Checkpointer(os.path.join(folder, "run"), every=5),
)
np.save(os.path.join(folder, "fitness.npy"), np.asarray(data["metrics"]["fitness"]))
print("done at", int(state.step))
