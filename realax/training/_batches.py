"""Groups of batches, which share one call of the device."""

from typing import Any

import jax
import numpy as np

from .._check import no_type_check
from .._errors import describe
from .._types import Tree


# A call of the device costs some milliseconds on the host. This many batches share
# one, if they fit into this many bytes.
MAX_BATCHES = 128
_MAX_BYTES = 2**22


class Group:
    """Batches of equal shapes, stacked into one array per leaf.

    - `size`: the number of batches.
    - `used`: the number of batches that steps have used.

    **Arguments:**

    - `batch`: the first batch.
    - `most`: the largest number of batches.
    """

    def __init__(self, batch: Tree, most: int):
        leaves, self._treedef = jax.tree_util.tree_flatten_with_path(batch)
        self.size, self.used = 1, 0
        self._device = any(map(_is_on_accelerator, leaves))
        if self._device:
            self._rows: list[Any] = [
                leaf if isinstance(leaf, jax.Array) else _array(path, leaf)
                for path, leaf in leaves
            ]
            self._most = 1
            return
        arrays = [_array(path, leaf) for path, leaf in leaves]
        dtypes = [jax.dtypes.canonicalize_dtype(array.dtype) for array in arrays]
        size = sum(array.nbytes for array in arrays)
        self._most = max(1, min(most, _MAX_BYTES // max(1, size)))
        # `empty`, because pages of memory that are never written to cost nothing.
        self._rows = [
            np.empty((self._most, *array.shape), dtype)
            for array, dtype in zip(arrays, dtypes, strict=True)
        ]
        for row, array in zip(self._rows, arrays, strict=True):
            row[0] = array

    @property
    @no_type_check
    def has_room(self) -> bool:
        """True if another batch fits."""
        return self.size < self._most

    @no_type_check
    def add(self, batch: Tree) -> bool:
        """Add a batch if it fits, and return whether it did."""
        if not self.has_room:
            return False
        leaves, treedef = jax.tree_util.tree_flatten_with_path(batch)
        if treedef != self._treedef or any(map(_is_on_accelerator, leaves)):
            return False
        arrays = [_array(path, leaf) for path, leaf in leaves]
        for row, array in zip(self._rows, arrays, strict=True):
            dtype = jax.dtypes.canonicalize_dtype(array.dtype)
            if row.shape[1:] != array.shape or row.dtype != dtype:
                return False
        for row, array in zip(self._rows, arrays, strict=True):
            row[self.size] = array
        self.size += 1
        return True

    def close(self) -> Tree:
        """Return the stacked batches, with a leading axis of fixed length.

        No more batches can be added afterwards.
        """
        self._most = 0
        rows = [row[None] for row in self._rows] if self._device else self._rows
        return jax.tree.unflatten(self._treedef, rows)


@no_type_check
def _is_on_accelerator(entry: tuple[Any, Any]) -> bool:
    """Return whether an array is on an accelerator, or holds keys and not numbers."""
    _, leaf = entry
    if not isinstance(leaf, jax.Array):
        return False
    keys = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return keys or next(iter(leaf.devices())).platform != "cpu"


def copy_batch(batch: Tree) -> Tree:
    """Return a copy of a batch, because its source may reuse the memory of numpy."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x if isinstance(x, jax.Array) else np.array(_array(path, x)),
        batch,
    )


@no_type_check
def _array(path: Any, leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    if array.dtype.kind not in "biufcV":
        raise TypeError(
            "`batches` must yield trees of arrays and numbers, but got "
            f"{describe(leaf)} at `{jax.tree_util.keystr(path) or '(root)'}`."
        )
    return array
