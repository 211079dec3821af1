"""An archive whose cells are where descriptors turn out to be."""

from typing import Any, ClassVar, SupportsFloat, SupportsIndex, cast, final

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from ..._arguments import arguments, number, whole
from ..._trees import with_fields
from ._archive import AbstractArchive, Numbers, a_bound, of_each_entry
from ._nearest import nearest


# So many descriptors are compared with all cells at once.
_BATCH = 32
# Squares of distances are then numbers of float32.
_LEAST, _MOST = 1e-15, 1e15


def _scale(phrase: str, value: Any) -> Any:
    """Check a scale: a positive number, or one for each entry of a descriptor."""
    value = a_bound(phrase, value)
    if isinstance(value, Tracer):
        return value
    array = np.asarray(value)
    if (array < _LEAST).any() or (array > _MOST).any():
        raise ValueError(
            f"{phrase} must be from {_LEAST:g} to {_MOST:g}, but got {array.tolist()}."
        )
    return value


@final
class UnstructuredArchive(AbstractArchive):
    """Founds a cell wherever a descriptor is far from those of all others.

    It needs no bounds: a descriptor that is farther than `spacing` from the first one
    of every cell is the first of a new cell, while fewer than `cells` are founded. Any
    other lies in the cell whose first one is nearest. These places stay where they are,
    so that cells do not drift with their elites. An elite stays in its cell, even if a
    nearer one is founded later.

    `coverage` is the share of `cells` that are founded. Once it is 1, descriptors far
    from all of them compete in the nearest: choose a larger `spacing`, or more cells.

    **Arguments:**

    - `cells`: the largest number of cells.
    - `spacing`: the distance beyond which a cell is founded.
    - `dims`: the number of entries of a descriptor.
    - `scale`: the unit of distances: one number, or one for each entry of a descriptor.
        `share` returns descriptors in this unit, which have no bounds.

    Its `points` are the first descriptors of the cells, in units of `scale`, and
    `founded` is the number of cells that have one.

    **Raises:** `ValueError` or `TypeError` that names the argument.

    Sources: J. Lehman, K. O. Stanley, Abandoning Objectives: Evolution through the
    Search for Novelty Alone, 2011, for the distance; A. Cully, Y. Demiris, Quality and
    Diversity Optimization: A Unifying Modular Framework, arXiv:1708.09251, whose
    archive moves with its elites.
    """

    scale: Float[Array, " dims"]
    spacing: Float[Array, ""]
    points: Float[Array, "cells dims"]
    founded: Int[Array, ""]
    grows: ClassVar[bool] = True

    @arguments(
        cells=whole(),
        spacing=number(least=_LEAST, most=_MOST),
        dims=whole(),
        scale=_scale,
    )
    def __init__(
        self,
        cells: SupportsIndex,
        spacing: ArrayLike | SupportsFloat,
        dims: SupportsIndex = 2,
        *,
        scale: Numbers = 1.0,
    ):
        entries = cast(int, dims)
        phrase = "`scale` of `UnstructuredArchive`"
        self.scale = of_each_entry(phrase, scale, entries)
        dtype = self.scale.dtype
        self.spacing = jnp.asarray(cast(Any, spacing), dtype)
        self.points = jnp.zeros((cast(int, cells), entries), dtype)
        self.founded = jnp.zeros((), jnp.int32)

    @property
    def lower(self) -> Float[Array, " dims"]:
        """The origin: shares are descriptors in units of `scale`."""
        return jnp.zeros(self.scale.shape, self.scale.dtype)

    @property
    def upper(self) -> Float[Array, " dims"]:
        """The scale."""
        return self.scale

    @property
    def cells(self) -> int:
        """The largest number of cells."""
        return self.points.shape[-2]

    @property
    def centroids(self) -> Float[Array, "cells dims"]:
        """The first descriptor of each cell; 0 for those that are not founded."""
        return self.points * self.scale

    def cell(self, descriptor: Float[Array, " dims"]) -> Int[Array, ""]:
        """Return the number of the founded cell whose first descriptor is nearest; 0 if
        none is founded."""
        return self._nearest(self.share(descriptor))[0]

    def outside(self, descriptor: Float[Array, " dims"]) -> Bool[Array, ""]:
        """Return False: there are no bounds."""
        del descriptor
        return jnp.zeros((), bool)

    def place(
        self, descriptor: Float[Array, "pop dims"], usable: Bool[Array, " pop"]
    ) -> tuple["UnstructuredArchive", Int[Array, " pop"]]:
        """Return the archive with the cells that these descriptors found, in order,
        and the cell of each of them."""
        # They decide whole numbers alone, which have no derivative.
        shares = self.share(descriptor).astype(self.points.dtype)
        shares, spacing = jax.lax.stop_gradient((shares, self.spacing))
        # All at once would be a matrix that no cache of a processor holds.
        cell, square = jax.lax.map(self._nearest, shares, batch_size=_BATCH)

        def goes_on(carry: Any) -> Bool[Array, ""]:
            far, founded, *_ = carry
            return jnp.any(far) & (founded < self.cells)

        def found(carry: Any) -> Any:
            far, founded, points, cell, square = carry
            first = jnp.argmax(far)
            new = jnp.sum((shares - shares[first]) ** 2, axis=-1)
            return (
                (far & (new > spacing**2)).at[first].set(False),
                founded + 1,
                points.at[founded].set(shares[first]),
                jnp.where(new < square, founded, cell),
                jnp.minimum(new, square),
            )

        far = usable & (square > spacing**2)
        start = far, self.founded, self.points, cell, square
        _, founded, points, cell, _ = jax.lax.while_loop(goes_on, found, start)
        return with_fields(self, points=points, founded=founded), cell

    def _nearest(
        self, share: Float[Array, " dims"]
    ) -> tuple[Int[Array, ""], Float[Array, ""]]:
        """Return the nearest founded cell, and the square of the distance to it."""
        founded = jnp.arange(self.cells) < self.founded
        return nearest(jax.lax.stop_gradient(self.points), share, founded)
