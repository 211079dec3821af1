"""The outcomes of jobs as arrays."""

from typing import Any

import jax
import numpy as np

from .._check import no_type_check
from .._workers import Outcome
from ._observing import Evaluation


@no_type_check
def gathered(
    outcomes: list[Outcome | None], shape: tuple[int, ...], name: str
) -> Evaluation:
    """Return the outcomes of all jobs, stacked; NaN and 0 for those that failed."""
    values = np.array([np.nan if one is None else one.value for one in outcomes])
    values = on_device(_canonical(values.reshape(shape)))
    pairs = [None if one is None else one[1:] for one in outcomes]
    if all(pair is None or (pair[0] is None and pair[1] is None) for pair in pairs):
        return Evaluation(values)
    return Evaluation(values, *_stacked(pairs, shape, name))


@no_type_check
def _stacked(trees: list[Any], shape: tuple[int, ...], name: str) -> Any:
    """Return trees of equal structure as one, with the axes `shape` in front."""
    known = next(tree for tree in trees if tree is not None)
    _, structure = jax.tree.flatten(known)
    rows = list[list[np.ndarray]]()
    for i, tree in enumerate(trees):
        leaves, found = jax.tree.flatten(known if tree is None else tree)
        arrays = [np.asarray(leaf) for leaf in leaves]
        if tree is None:
            arrays = [np.full_like(array, _missing(array)) for array in arrays]
        shapes = [array.shape for array in arrays]
        if found != structure or (i and shapes != [array.shape for array in rows[0]]):
            raise TypeError(
                f"the aux of {name} must have the same structure and shapes in each "
                f"evaluation, but got {_outline(known)} and {_outline(tree)}."
            )
        rows.append(arrays)
    columns = [
        _canonical(np.stack(column)).reshape(*shape, *column[0].shape)
        for column in zip(*rows, strict=True)
    ]
    return jax.tree.unflatten(structure, on_device(columns))


def _outline(pair: Any) -> str:
    """Return the shapes of an aux, for a message."""
    return str(jax.tree.map(lambda leaf: f"{np.shape(leaf)}", pair[0]))


@jax.jit
def on_device(arrays: Any) -> Any:
    """Return numpy arrays as those of jax, several times faster than `device_put`."""
    return arrays


@no_type_check
def _missing(array: np.ndarray) -> float:
    return np.nan if array.dtype.kind in "fc" else 0


@no_type_check
def _canonical(array: np.ndarray) -> np.ndarray:
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype))
