"""The devices over which a population is divided."""

import jax
import jax.numpy as jnp
from jax.core import Tracer

from .._check import no_type_check
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
    whole = _whole(n_devices)

    @no_type_check
    def put(leaf: object) -> object:
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
