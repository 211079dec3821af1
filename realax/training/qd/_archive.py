"""Archives: how the space of descriptors is divided into cells."""

import abc
import math
from collections.abc import Sequence
from typing import Any, ClassVar, SupportsFloat, SupportsIndex, cast, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from ..._arguments import Check, arguments, whole
from ..._errors import describe


# One number, or one for each entry of a descriptor.
type Numbers = ArrayLike | Sequence[SupportsFloat]


class AbstractArchive(eqx.Module):
    """Divides descriptors into cells, of which each keeps its best individual.

    A subclass defines how many cells there are, and in which one a descriptor lies.

    - `lower`, `upper`: the bounds of the box, or where `share` is 0 and 1.
    - `grows`: whether cells are founded while a run fills it. There are no bounds then,
        and `centroids` change.
    """

    lower: eqx.AbstractVar[Float[Array, " dims"]]
    upper: eqx.AbstractVar[Float[Array, " dims"]]
    grows: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def cells(self) -> int:
        """The number of cells."""

    @property
    @abc.abstractmethod
    def centroids(self) -> Float[Array, "cells dims"]:
        """The centre of each cell."""

    @abc.abstractmethod
    def cell(self, descriptor: Float[Array, " dims"]) -> Int[Array, ""]:
        """Return the number of the cell of a descriptor.

        One outside the bounds counts as the nearest one inside.

        **Arguments:**

        - `descriptor`: finite numbers.
        """

    @property
    def dims(self) -> int:
        """The number of entries of a descriptor."""
        return self.lower.shape[-1]

    def share(self, descriptor: Float[Array, "*pop dims"]) -> Float[Array, "*pop dims"]:
        """Return where descriptors lie: 0 at the lower bounds, 1 at the upper ones."""
        return (descriptor - self.lower) / (self.upper - self.lower)

    def outside(self, descriptor: Float[Array, " dims"]) -> Bool[Array, ""]:
        """Return whether a descriptor lies outside the bounds."""
        return jnp.any((descriptor < self.lower) | (descriptor > self.upper))

    def place(
        self, descriptor: Float[Array, "pop dims"], usable: Bool[Array, " pop"]
    ) -> tuple["AbstractArchive", Int[Array, " pop"]]:
        """Return the archive into which a generation is inserted, and its cells.

        By default it is this archive, and `cell` of each descriptor. One that `grows`
        returns an archive with more of them in use, with
        arrays of the same shapes and the same numbers for those that were in use.

        **Arguments:**

        - `descriptor`: those of the generation, in order.
        - `usable`: false for individuals that have failed, whose descriptor is 0.
        """
        del usable
        return self, jax.vmap(self.cell)(descriptor)


def shape_of(phrase: str, value: Any) -> tuple[int, ...]:
    """Check the shape of a grid."""
    entries: Any = value if isinstance(value, Sequence) else [value]
    if isinstance(entries, str) or not len(entries):
        raise TypeError(
            f"{phrase} must be the number of cells in each direction, such as "
            f"`(50, 50)`, but got {describe(value)}."
        )
    return tuple(whole()(phrase, one) for one in entries)


def a_bound(phrase: str, value: Any) -> Any:
    """Check a bound: a finite number, or one for each entry of a descriptor."""
    if isinstance(value, Tracer):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or array.ndim > 1 or not array.size:
        raise TypeError(
            f"{phrase} must be a number, or one for each entry of a descriptor, but "
            f"got {describe(value)}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{phrase} must be finite, but got {array.tolist()}.")
    return value


BOUNDS: dict[str, Check] = {"lower": a_bound, "upper": a_bound}


def of_each_entry(phrase: str, value: Any, dims: int) -> Array:
    """Return a number for each entry of a descriptor.

    **Raises:** `ValueError` if there are several, and not as many.
    """
    array = jnp.asarray(value, jnp.result_type(float))
    if array.shape not in ((), (dims,)):
        raise ValueError(
            f"{phrase} must be one number, or {dims}, one for each entry of a "
            f"descriptor, but got {describe(value)}."
        )
    return jnp.broadcast_to(array, (dims,))


def bounds_of(name: str, lower: Any, upper: Any, dims: int) -> tuple[Array, Array]:
    """Return bounds as arrays with an entry for each of a descriptor.

    **Raises:** `ValueError` if they have another length, or are reversed.
    """
    found = dict[str, Array]()
    for argument, value in (("lower", lower), ("upper", upper)):
        found[argument] = of_each_entry(f"`{argument}` of `{name}`", value, dims)
    low, high = found["lower"], found["upper"]
    known = not isinstance(low, Tracer) and not isinstance(high, Tracer)
    if known and not bool(jnp.all(low < high)):
        raise ValueError(
            f"`lower` of `{name}` must be below `upper` in each entry, but got "
            f"{np.asarray(low).tolist()} and {np.asarray(high).tolist()}."
        )
    return low, high


@final
class GridArchive(AbstractArchive):
    """Divides a box of descriptors into equal boxes.

    Cells are numbered as numpy numbers the entries of an array of this shape:
    `state.fitness.reshape(shape)[i, j]` is that of the `i`-th interval of the first
    entry, and the `j`-th of the second.

    **Arguments:**

    - `shape`: the number of cells in the direction of each entry of a descriptor.
    - `lower`, `upper`: the bounds: one number, or one for each entry.

    **Raises:** `ValueError` or `TypeError` that names the argument.

    Source: J.-B. Mouret, J. Clune, Illuminating search spaces by mapping elites,
    arXiv:1504.04909.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    lower: Float[Array, " dims"]
    upper: Float[Array, " dims"]

    @arguments(shape=shape_of, **BOUNDS)
    def __init__(
        self,
        shape: Sequence[SupportsIndex] | SupportsIndex,
        lower: Numbers,
        upper: Numbers,
    ):
        self.shape = cast("tuple[int, ...]", shape)
        self.lower, self.upper = bounds_of("GridArchive", lower, upper, len(self.shape))

    @property
    def cells(self) -> int:
        """The number of cells."""
        return math.prod(self.shape)

    @property
    def centroids(self) -> Float[Array, "cells dims"]:
        """The centre of each cell."""
        axes = [(jnp.arange(size) + 0.5) / size for size in self.shape]
        shares = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)
        shares = shares.reshape(self.cells, len(self.shape))
        return self.lower + shares * (self.upper - self.lower)

    def cell(self, descriptor: Float[Array, " dims"]) -> Int[Array, ""]:
        """Return the number of the cell of a descriptor."""
        index = jnp.zeros((), jnp.int32)
        shares = jnp.clip(self.share(descriptor), 0, 1)
        for share, size in zip(shares, self.shape, strict=True):
            place = jnp.floor(share * size).astype(jnp.int32)
            index = index * size + jnp.minimum(place, size - 1)
        return index
