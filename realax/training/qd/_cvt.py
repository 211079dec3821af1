"""An archive of Voronoi cells."""

from typing import Any, SupportsIndex, cast, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ..._arguments import arguments, optional, whole
from ..._errors import describe
from ._archive import BOUNDS, AbstractArchive, Numbers, bounds_of
from ._nearest import nearest
from ._voronoi import candidates, even_centroids


# Up to so many dimensions, a table leaves few centroids to compare with. With more, its
# size would grow faster than the time it saves.
_TABLE = 3
_SAMPLES_PER_CELL = 10


def _points(phrase: str, value: Any) -> Any:
    array = np.asarray(value)
    if array.ndim != 2 or array.dtype.kind not in "iuf" or not array.size:
        raise TypeError(
            f"{phrase} must be an array of shape (cells, dims), but got "
            f"{describe(value)}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{phrase} must be finite, but got {array.tolist()}.")
    return array


@final
class CVTArchive(AbstractArchive):
    """Divides a box of descriptors into cells of nearly equal size, in any dimensions.

    A descriptor lies in the cell of the nearest centroid. Distances are measured in
    units of the box's width in each direction. Up to three dimensions, a table leaves a
    few centroids to compare with; with more, all are compared.

    Centroids are the result of Lloyd's algorithm on uniform samples, and the same for
    the same arguments. 10,000 take some seconds once in a process.

    **Arguments:**

    - `cells`: the number of cells.
    - `lower`, `upper`: the bounds: one number, or one for each entry of a descriptor.
    - `dims`: the number of entries of a descriptor.
    - `samples`: the number of samples, by default ten for each cell.
    - `seed`: decides which samples.
    - `centroids`: an array of shape `(cells, dims)` of centroids within the bounds, to
        use instead.

    **Raises:** `ValueError` or `TypeError` that names the argument.

    Source: V. Vassiliades, K. Chatzilygeroudis, J.-B. Mouret, Using Centroidal Voronoi
    Tessellations to Scale Up MAP-Elites, arXiv:1610.05729.
    """

    lower: Float[Array, " dims"]
    upper: Float[Array, " dims"]
    shares: Float[Array, "cells dims"]
    table: Int[Array, "*side most"] | None

    @arguments(
        cells=whole(),
        dims=whole(),
        samples=optional(whole()),
        seed=whole(0),
        centroids=optional(_points),
        **BOUNDS,
    )
    def __init__(
        self,
        cells: SupportsIndex,
        lower: Numbers,
        upper: Numbers,
        dims: SupportsIndex = 2,
        *,
        samples: SupportsIndex | None = None,
        seed: SupportsIndex = 0,
        centroids: ArrayLike | None = None,
    ):
        number, entries = cast(int, cells), cast(int, dims)
        self.lower, self.upper = bounds_of("CVTArchive", lower, upper, entries)
        if centroids is None:
            points = number * _SAMPLES_PER_CELL if samples is None else samples
            if cast(int, points) < number:
                raise ValueError(
                    "`samples` of `CVTArchive` must be at least `cells`, "
                    f"{number}, but got {points}. Ten for each cell are the default."
                )
            # The default float type decides the cache's entry alone.
            shares = even_centroids(number, entries, cast(int, points), cast(int, seed))
        else:
            shares = self._own(np.asarray(centroids), number, entries)
        # As they are stored: the table is of exactly these numbers.
        stored = np.asarray(shares, jnp.result_type(float))
        table = candidates(stored) if entries <= _TABLE else None
        with jax.ensure_compile_time_eval():
            self.shares = jnp.asarray(stored)
            self.table = None if table is None else jnp.asarray(table)

    def _own(self, centroids: np.ndarray, cells: int, dims: int) -> np.ndarray:
        if centroids.shape != (cells, dims):
            raise ValueError(
                f"`centroids` of `CVTArchive` must have the shape (cells, dims) = "
                f"{(cells, dims)}, but got {centroids.shape}."
            )
        shares = np.asarray(self.share(jnp.asarray(centroids, self.lower.dtype)))
        if (shares < 0).any() or (shares > 1).any():
            raise ValueError(
                "`centroids` of `CVTArchive` must lie within the bounds, but got some "
                f"from {centroids.min(0).tolist()} to {centroids.max(0).tolist()}."
            )
        return shares

    @property
    def cells(self) -> int:
        """The number of cells."""
        return self.shares.shape[-2]

    @property
    def centroids(self) -> Float[Array, "cells dims"]:
        """The centre of each cell."""
        return self.lower + self.shares * (self.upper - self.lower)

    def cell(self, descriptor: Float[Array, " dims"]) -> Int[Array, ""]:
        """Return the number of the cell of a descriptor; of equally near ones, the
        first."""
        place = jnp.clip(self.share(descriptor), 0, 1)
        if self.table is None:
            return nearest(self.shares, place)[0]
        side = self.table.shape[0]
        box = jnp.minimum(jnp.floor(place * side).astype(jnp.int32), side - 1)
        index = self.table[tuple(box)]
        return index[nearest(self.shares[index], place)[0]]
