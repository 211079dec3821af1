"""The devices over which populations, environments and minibatches are divided."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer

from .._check import no_type_check
from .._hosts._arrays import spread
from .._types import Tree


def device_mesh(n_devices: int) -> jax.sharding.Mesh:
    """Return the first `n_devices` devices in a row, as axis `"pop"`.

    **Raises:** `ValueError` if jax sees fewer devices.
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
        # With XLA's newer partitioner (jax 0.11.2), a loop over brax that is divided
        # over CPU devices ends the process by a segmentation fault when it is compiled.
        jax.config.update("jax_use_shardy_partitioner", False)
    axis = jax.sharding.AxisType.Auto
    return jax.make_mesh((n_devices,), ("pop",), (axis,), devices=devices[:n_devices])


def on_every_device(state: Tree, n_devices: int) -> Tree:
    """Replicate `state` on every device.

    Otherwise the first step would be compiled twice.
    """
    if n_devices == 1:
        return state
    return jax.lax.with_sharding_constraint(state, _whole(n_devices))


def put_on_every_device(tree: Tree, n_devices: int) -> Tree:
    """Replicate arrays that enter a run, which may be committed to some device.

    jax refuses to combine data committed to one device with the mesh. Tracers, and
    leaves that are no arrays of jax, stay unchanged.
    """
    if n_devices == 1 or isinstance(jnp.zeros(()), Tracer):
        return tree
    return _put(tree, _whole(n_devices))


def put_divided(tree: Tree, n_devices: int) -> Tree:
    """Divide arrays that enter a run over devices, along their leading axes.

    Leaves stay unchanged as in `put_on_every_device`.
    """
    if n_devices == 1 or isinstance(jnp.zeros(()), Tracer):
        return tree
    part = jax.sharding.PartitionSpec("pop")
    return _put(tree, jax.sharding.NamedSharding(device_mesh(n_devices), part))


def _put(tree: Tree, sharding: jax.sharding.NamedSharding) -> Tree:
    def put(leaf: object) -> object:
        if not isinstance(leaf, jax.Array) or isinstance(leaf, Tracer):
            return leaf
        if leaf.committed and leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
            return leaf
        if not sharding.is_fully_addressable:
            return spread(leaf, sharding)
        return jax.device_put(leaf, sharding)

    return jax.tree.map(put, tree)


def beside(inputs: Tree, results: Tree) -> Tree:
    """Return results where a program puts them that computes with some inputs.

    If an input, or a part of the results, is committed to a device, a compiled function
    commits all its results. It would be compiled anew for those that are not.
    """
    arrays = [x for x in jax.tree.leaves((inputs, results)) if _is_array(x)]
    devices = {one for x in arrays if x.committed for one in x.sharding.device_set}
    if len(devices) != 1 or all(x.committed for x in jax.tree.leaves(results)):
        return results
    return jax.device_put(results, devices.pop())


def _is_array(leaf: object) -> bool:
    return isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer)


@no_type_check
def divided(
    function: Callable[[Any, Any], Any],
    split: Tree,
    shared: Tree,
    n_devices: int,
    *,
    gather: bool = True,
) -> Any:
    """Return `function(split, shared)`, computed in parts on several devices.

    **Arguments:**

    - `function`: its results have the leading axis of `split`.
    - `split`: a tree of arrays with a leading axis, of which each device gets a part.
    - `shared`: a tree that each device gets whole.
    - `n_devices`: the number of devices, a divisor of that axis.
    - `gather`: whether `split` and the results are whole on each device; otherwise each
        device has its part.
    """
    if n_devices == 1:
        return function(split, shared)
    mesh = device_mesh(n_devices)
    part, whole = jax.sharding.PartitionSpec("pop"), jax.sharding.PartitionSpec()
    (split, shared), static = eqx.partition((split, shared), eqx.is_array)
    # Whole on each device before and after: otherwise XLA would divide what surrounds
    # the function too, and communication between devices would dominate.
    if gather:
        split = on_every_device(split, n_devices)

    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(part, whole),
        out_specs=part,
        check_vma=False,
    )
    def shard(split: Tree, shared: Tree) -> Any:
        return function(*eqx.combine((split, shared), static))

    results = shard(split, shared)
    return on_every_device(results, n_devices) if gather else results


def summed(
    function: Callable[[Any, Any], Any], split: Tree, shared: Tree, n_devices: int
) -> Any:
    """Return the sum of `function(part, shared)` over the devices' parts of `split`."""
    if n_devices == 1:
        return function(split, shared)

    def one(split: Tree, shared: Tree) -> Any:
        return jax.tree.map(lambda leaf: leaf[None], function(split, shared))

    parts = divided(one, split, shared, n_devices)
    return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), parts)


def devices_of(trainer: Any) -> int | None:
    """Return over how many devices a trainer, or one inside of it, divides its work.

    `None` for a trainer that cannot divide it.
    """
    inside = getattr(trainer, "trainer", None)
    own = getattr(trainer, "n_devices", None)
    found = own, None if inside is None else devices_of(inside)
    return max((int(count) for count in found if count is not None), default=None)


@no_type_check
def check_placement(**trees: Tree) -> None:
    """Refuse arrays that were committed to different devices, which jax cannot combine.

    **Arguments:**

    - `trees`: the arguments of a program by their names.

    **Raises:** `ValueError` that names two of the arrays.
    """
    if isinstance(jnp.zeros(()), Tracer):
        return  # known arrays become constants of the outer program
    first: tuple[str, set[Any]] | None = None
    for name, tree in trees.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if not isinstance(leaf, jax.Array) or isinstance(leaf, Tracer):
                continue
            if not leaf.committed:
                continue
            place = f"`{name}{jax.tree_util.keystr(path)}`", leaf.sharding.device_set
            first = first or place
            if place[1] != first[1]:
                raise ValueError(
                    "the arrays of a run must be on the same devices, but got "
                    f"{first[0]} on {_listed(first[1])} and {place[0]} on "
                    f"{_listed(place[1])}. Move one of them: "
                    "`jax.device_put(array, other_array.sharding)`."
                )


def _listed(devices: set[Any]) -> str:
    return ", ".join(sorted(map(str, devices)))


def _whole(n_devices: int) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(
        device_mesh(n_devices), jax.sharding.PartitionSpec()
    )
