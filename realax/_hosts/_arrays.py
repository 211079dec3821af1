"""Arrays over the devices of several processes, and as one process reads them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from .._check import no_type_check
from .._types import Tree


@no_type_check
def spread(leaf: jax.Array, sharding: jax.sharding.NamedSharding) -> jax.Array:
    """Return an array over devices of which some belong to other processes.

    **Arguments:**

    - `leaf`: the array, which each process has whole.
    - `sharding`: its new place.
    """
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = spread(jr.key_data(leaf), sharding)
        return jr.wrap_key_data(data, impl=jr.key_impl(leaf))
    data = np.asarray(leaf)
    return jax.make_array_from_callback(data.shape, sharding, lambda part: data[part])


def readable(tree: Tree) -> Tree:
    """Return a tree with each array whole on a device of this process.

    Every process has to call it if an array is divided among them, which is gathered.
    Arrays that are on devices of this process alone stay where they are.
    """
    leaves, treedef = jax.tree.flatten(tree)
    divided = [i for i, leaf in enumerate(leaves) if is_divided(leaf)]
    if divided:
        whole = _gather()([leaves[i] for i in divided])
        for i, leaf in zip(divided, whole, strict=True):
            leaves[i] = leaf
    return local(jax.tree.unflatten(treedef, leaves))


@no_type_check
def is_divided(tree: Tree) -> bool:
    """Return whether an array of a tree is divided among processes."""
    return any(
        isinstance(leaf, jax.Array)
        and not (leaf.is_fully_addressable or leaf.is_fully_replicated)
        for leaf in jax.tree.leaves(tree)
    )


def local(tree: Tree) -> Tree:
    """Return a tree with each array on a device of this process.

    A process may call it alone. No array is divided among processes.
    """

    def own(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        return leaf.addressable_data(0)

    return jax.tree.map(own, tree)


@functools.cache
def _gather() -> Any:
    auto = jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((jax.device_count(),), ("all",), (auto,))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.jit(lambda arrays: arrays, out_shardings=whole)
