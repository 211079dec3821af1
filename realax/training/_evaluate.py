"""The only place where a population meets a task."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Key

from .._check import no_type_check
from .._errors import describe
from .._types import TaskFn, Tree
from ..tasks import AbstractTask
from ..tasks._base import check_arrays, vmap_jobs


def evaluate[P](
    task: TaskFn | AbstractTask[P],
    population: P,
    keys: Key[Array, "pop reps"],
    data: Tree = None,
    n_devices: int = 1,
) -> tuple[Float[Array, "pop reps"], Tree]:
    """The values of a population on a task.

    **Arguments:**

    - `task`: a function `(params, key, data) -> (value, aux)`, or an `AbstractTask`.
    - `population`: parameters with a leading axis `pop` on every array.
    - `keys`: one for each individual and repetition. They are split before anything is
        distributed: `n_devices` changes no more than the order of floating-point sums.
    - `data`: shared by all.
    - `n_devices`: over how many devices the population is spread; a divisor of `pop`.

    **Returns:** The values, shape `(pop, reps)`, and the aux with the same two leading
    axes.
    """
    if n_devices == 1:
        return _evaluate(task, population, keys, data)
    mesh = device_mesh(n_devices)
    split, whole = jax.sharding.PartitionSpec("pop"), jax.sharding.PartitionSpec()
    arrays, static = eqx.partition((population, (task, data)), eqx.is_array)
    split_arrays, whole_arrays = arrays
    # Whole on each device before and after. Otherwise XLA would spread the algorithm
    # too, and the devices would spend their time talking and sum in another order.
    split_arrays, keys = on_every_device((split_arrays, keys), n_devices)

    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(split, whole, split),
        out_specs=split,
        check_vma=False,
    )
    def shard(population: Any, shared: Any, keys: Any) -> Any:
        population, (task, data) = eqx.combine((population, shared), static)
        values, aux = _evaluate(task, population, keys, data)
        _check_axes(aux, keys.shape)
        return values, aux

    return on_every_device(shard(split_arrays, whole_arrays, keys), n_devices)


def _evaluate(
    task: Any, population: Any, keys: Any, data: Any
) -> tuple[Float[Array, "pop reps"], Tree]:
    if isinstance(task, AbstractTask):
        result: Any = task.evaluate(population, keys, data)
        return _checked(result, keys.shape, f"`{type(task).__name__}.evaluate`")
    return vmap_jobs(task, population, keys, data)


def _checked(result: Any, shape: tuple[int, ...], name: str) -> tuple[Array, Tree]:
    """What a task's own `evaluate` returned, in jax's default float dtype."""
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"{name} must return a pair (values, aux), but got {describe(result)}. "
            "Return `values, None` where there is no aux."
        )
    values, aux = result
    if not eqx.is_array_like(values) or jnp.shape(values) != shape:
        raise TypeError(
            f"the values of {name} must be of shape (pop, reps) = {shape}, the shape "
            f"of `keys`, but got {describe(values)}."
        )
    check_arrays(aux, f"the aux of {name}")
    values = jnp.asarray(values)
    if jnp.issubdtype(values.dtype, jnp.complexfloating):
        raise TypeError(
            f"the values of {name} must be real, but got {values.dtype}. Take "
            "`jnp.real` or `jnp.abs` of them."
        )
    return values.astype(jnp.result_type(float)), aux


def _check_axes(aux: Tree, jobs: tuple[int, ...]) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(aux):
        if jnp.shape(leaf)[:2] != jobs:
            raise ValueError(
                f"with `n_devices`, the aux must have the leading axes (pop, reps), "
                f"here {jobs}, but got shape {jnp.shape(leaf)} at "
                f"`{jax.tree_util.keystr(path) or '(root)'}`. Return it for each "
                "individual, or evaluate on one device."
            )


def on_every_device(state: Tree, n_devices: int) -> Tree:
    """`state` whole on each device of the mesh, so that each computes all of it.

    One that lay elsewhere before the first step would compile the step once more.
    """
    if n_devices == 1:
        return state
    return jax.lax.with_sharding_constraint(state, _whole(n_devices))


def put_on_every_device(tree: Tree, n_devices: int) -> Tree:
    """As `on_every_device`, for what enters a run: arrays that lie somewhere already.

    Such as data committed to one device, which jax would not combine with the mesh.
    Tracers, and what is no array of jax, are left alone.
    """
    if n_devices == 1 or isinstance(jnp.zeros(()), Tracer):
        return tree
    whole = _whole(n_devices)

    @no_type_check
    def put(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or isinstance(leaf, Tracer):
            return leaf
        if leaf.committed and leaf.sharding.is_equivalent_to(whole, leaf.ndim):
            return leaf
        return jax.device_put(leaf, whole)

    return jax.tree.map(put, tree)


def _whole(n_devices: int) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(
        device_mesh(n_devices), jax.sharding.PartitionSpec()
    )


def device_mesh(n_devices: int) -> jax.sharding.Mesh:
    """The first `n_devices` devices in a row, as axis `"pop"`.

    **Raises:** `ValueError` where there are not so many.
    """
    devices = jax.devices()
    if n_devices > len(devices):
        raise ValueError(
            f"`n_devices` must be at most {len(devices)}, the {devices[0].platform} "
            f"devices that jax sees, but got {n_devices}. On CPU call "
            f'`jax.config.update("jax_num_cpu_devices", {n_devices})` before anything '
            "else uses jax."
        )
    if n_devices > 1 and devices[0].platform == "cpu":
        # With XLA's newer partitioner (jax 0.11.2), a loop over brax that is spread
        # over CPU devices ends the process by a segmentation fault when it is compiled.
        jax.config.update("jax_use_shardy_partitioner", False)
    axis = jax.sharding.AxisType.Auto
    return jax.make_mesh((n_devices,), ("pop",), (axis,), devices=devices[:n_devices])
