"""The rows of steps in buffers on the device, and as numpy arrays on the host."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from .._check import no_type_check
from .._types import Tree


# The approximate limit for the buffers of a chunk.
_MAX_BYTES = 2**24


def buffers_for(row: Tree, most: int) -> tuple[Tree, int]:
    """Return buffers for the rows of a chunk, and the number of rows that fit.

    **Arguments:**

    - `row`: the shapes of one row.
    - `most`: the largest number of rows.
    """
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(row))
    capacity = max(1, min(most, _MAX_BYTES // max(1, size)))

    def empty(leaf: Any) -> Any:
        return jnp.zeros((capacity, *leaf.shape), leaf.dtype)

    return jax.tree.map(empty, row), capacity


def write_row(buffers: Tree, i: Any, row: Tree) -> Tree:
    """Return the buffers with `row` at index `i`."""
    return jax.tree.map(lambda buffer, leaf: buffer.at[i].set(leaf), buffers, row)


@no_type_check
def host_rows(buffers: Tree, count: int) -> Tree:
    """Return the first `count` rows of each buffer as new numpy arrays."""

    def rows(buffer: Any) -> Any:
        keys = jnp.issubdtype(buffer.dtype, jax.dtypes.prng_key)
        data = jr.key_data(buffer) if keys else buffer
        return np.array(np.asarray(data)[:count])

    return jax.tree.map(rows, buffers)


def concatenate(buffers: Tree, chunks: list[Tree]) -> Tree:
    """Return the rows of all chunks as jax arrays of the buffers' types.

    numpy concatenates them, because jax would compile the concatenation of each
    division into chunks.
    """

    def join(buffer: Any, *rows: Any) -> Any:
        whole = np.concatenate(rows)
        if jnp.issubdtype(buffer.dtype, jax.dtypes.prng_key):
            return jr.wrap_key_data(jax.device_put(whole), impl=jr.key_impl(buffer))
        return jax.device_put(whole)

    return jax.tree.map(join, buffers, *chunks)
