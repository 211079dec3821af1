"""The evaluation of a population on a task, which all trainers share."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from .._types import Tree
from ..tasks import AbstractTask, Evaluation
from ..tasks._observing import evaluated
from ._devices import device_mesh, on_every_device


def evaluate_population[P](
    task: AbstractTask[P],
    population: Any,
    keys: Key[Array, "pop reps"],
    data: Tree = None,
    n_devices: int = 1,
) -> Evaluation:
    """Evaluate a population on a task.

    **Arguments:**

    - `task`: the task of one step, as `AbstractTask.draw` returns it.
    - `population`: parameters with a leading axis `pop` on every array; bound to
        statistics of observations if the task has some.
    - `keys`: one for each individual and repetition. They are split before anything is
        distributed, so that `n_devices` changes only the order of floating-point sums.
    - `data`: the data for all individuals.
    - `n_devices`: the number of devices over which the population is divided; a divisor
        of `pop`.

    **Returns:** The values, shape `(pop, reps)`; the aux, and the moments of
    observations if the task sums them up, with the same two leading axes.
    """
    if n_devices == 1:
        return evaluated(task, population, keys, data)
    mesh = device_mesh(n_devices)
    split, whole = jax.sharding.PartitionSpec("pop"), jax.sharding.PartitionSpec()
    arrays, static = eqx.partition((population, (task, data)), eqx.is_array)
    split_arrays, whole_arrays = arrays
    # Replicated before and after. Otherwise XLA would divide the algorithm as well:
    # communication between devices would dominate, and the order of sums would change.
    split_arrays, keys = on_every_device((split_arrays, keys), n_devices)

    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(split, whole, split),
        out_specs=split,
        check_vma=False,
    )
    def shard(population: Any, shared: Any, keys: Any) -> Evaluation:
        population, (task, data) = eqx.combine((population, shared), static)
        result = evaluated(task, population, keys, data)
        _check_axes(result.aux, keys.shape)
        return result

    return on_every_device(shard(split_arrays, whole_arrays, keys), n_devices)


def _check_axes(aux: Tree, jobs: tuple[int, ...]) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(aux):
        if jnp.shape(leaf)[:2] != jobs:
            raise ValueError(
                f"with `n_devices`, the aux must have the leading axes (pop, reps), "
                f"here {jobs}, but got shape {jnp.shape(leaf)} at "
                f"`{jax.tree_util.keystr(path) or '(root)'}`. Return it for each "
                "individual, or evaluate on one device."
            )
