"""State and metrics of quality diversity."""

from typing import Any, TypedDict

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from ..._arguments import arguments
from ..._errors import describe
from ..._template import Template
from ..._types import PRNGKeyArray, Step, Tree
from .._state import AbstractState
from .._streak import Streak
from ._archive import Numbers
from ._elites import Elites


class QDMetrics(TypedDict):
    """Metrics of each generation, in the task's own numbers.

    - `qd_score`: the sum over the filled cells of the elite's quality and `qd_offset`.
        Quality is fitness, or its negative if the task is minimised.
    - `coverage`: the share of the cells that are filled, from 0 to 1.
    - `best_fitness`: that of the best elite; NaN while there is none.
    - `added`: the number of individuals that became elites.
    - `failed`: the number of those that are not usable: a number of them, of their
        fitness or of their descriptor is not finite, or one of the latter two is beyond
        1e15.
    - `outside`: the number of usable ones whose descriptor is outside the bounds.
    """

    qd_score: Float[Array, ""]
    coverage: Float[Array, ""]
    best_fitness: Float[Array, ""]
    added: Int[Array, ""]
    failed: Int[Array, ""]
    outside: Int[Array, ""]


class ArchiveOf[P](eqx.Module):
    """The elites of all cells, stacked.

    - `params`: of the user's type, with a leading axis of cells on every array.
    - `fitness`: in the task's own numbers; NaN in empty cells.
    - `descriptor`: 0 in empty cells.
    - `filled`: whether a cell has an elite.
    - `extras`: what was asked for by `keep`, by name.
    """

    params: P
    fitness: Float[Array, " cells"]
    descriptor: Float[Array, "cells entries"]
    filled: Bool[Array, " cells"]
    extras: dict[str, Tree]


def _place(phrase: str, value: Any) -> Any:
    """Check that a value is numbers."""
    if not isinstance(value, Tracer) and np.asarray(value).dtype.kind not in "iuf":
        raise TypeError(
            f"{phrase} must be the numbers of a descriptor, such as `[0.5, 0.5]`, but "
            f"got {describe(value)}."
        )
    return value


class QDState[P](AbstractState):
    """State of quality diversity.

    - `step`: the number of generations so far.
    - `elites`: the archive with its elites, as flat numbers.
    - `emitter_state`: the emitter's own state.
    - `outside`: the mean share of individuals outside the bounds so far.
    - `refusals`: the number of updates of the emitter that were refused in a row.
    - `shuffle_key`: the key for the order in which `Minibatch` goes through the data.
    - `rest`: the arrays of the parameters that do not evolve.
    - `template`: rebuilds the user's type from flat numbers.
    - `maximize`: whether larger fitness is better.
    """

    step: Step
    elites: Elites
    emitter_state: Tree
    outside: Float[Array, ""]
    refusals: Streak
    shuffle_key: PRNGKeyArray
    rest: tuple[Array, ...]
    template: Template[P] = eqx.field(static=True)
    maximize: bool = eqx.field(static=True)

    @property
    def obs_stats(self) -> None:
        """There are none, because observations are not normalised."""
        return None

    @property
    def filled(self) -> Bool[Array, " cells"]:
        """Whether a cell has an elite."""
        return self.elites.filled

    @property
    def fitness(self) -> Float[Array, " cells"]:
        """The fitness of the elites in the task's own numbers; NaN in empty cells."""
        quality = jnp.where(self.filled, self.elites.quality, jnp.nan)
        return quality if self.maximize else -quality

    @property
    def descriptor(self) -> Float[Array, "cells entries"]:
        """The descriptors of the elites; 0 in empty cells."""
        return self.elites.descriptor

    @property
    def archive(self) -> ArchiveOf[P]:
        """The elites of all cells, stacked."""
        cells = len(self.elites.quality)
        rest = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (cells, *leaf.shape)), self.rest
        )
        return ArchiveOf(
            params=self.template.unflatten(self.elites.flat, rest),
            fitness=self.fitness,
            descriptor=self.elites.descriptor,
            filled=self.filled,
            extras=self.elites.extras,
        )

    @property
    def best_params(self) -> P:
        """The elite with the best fitness, of the user's type."""
        return self._of_cell(jnp.argmax(self.elites.quality))

    @arguments(descriptor=_place)
    def elite(self, descriptor: Numbers) -> P:
        """Return the elite whose descriptor is nearest to a given one.

        Distances are measured in units of the bounds' width in each direction, or of
        the `scale` of an `UnstructuredArchive`.

        **Arguments:**

        - `descriptor`: shape `(dims,)`. Map over several.

        **Returns:** The elite, of the user's type.

        **Raises:** `ValueError` for another shape, and if there is no elite.
        """
        archive, filled = self.elites.archive, self.filled
        wanted = jnp.asarray(descriptor, self.elites.descriptor.dtype)
        if wanted.shape != (archive.dims,):
            raise ValueError(
                f"`descriptor` must have the shape ({archive.dims},), but got "
                f"{describe(descriptor)}. For several: `jax.vmap(state.elite)`."
            )
        if not isinstance(filled, Tracer) and not bool(jnp.any(filled)):
            raise ValueError(
                "there is no elite yet: no individual had a finite fitness and "
                'descriptor. Look at `data["metrics"]["failed"]`.'
            )
        offset = archive.share(self.elites.descriptor) - archive.share(wanted)
        distance = jnp.sum(offset**2, axis=-1)
        return self._of_cell(jnp.argmin(jnp.where(filled, distance, jnp.inf)))

    def _of_cell(self, cell: Any) -> P:
        return self.template.unflatten(self.elites.flat[cell], self.rest)
