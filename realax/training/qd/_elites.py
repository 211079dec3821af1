"""The elites of an archive, and their replacement by better individuals."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from ..._keys import quick
from ..._types import PRNGKeyArray, Tree
from ._archive import AbstractArchive


class Elites(eqx.Module):
    """An archive with the best individual so far of each of its cells.

    - `archive`: how descriptors are divided into cells.
    - `flat`: its numbers. In a cell that is empty, those of the start.
    - `quality`: its fitness, with the sign such that larger is better; minus infinity
        in a cell that is empty.
    - `descriptor`: its descriptor; 0 in a cell that is empty.
    - `extras`: what else was asked for of it, by name; 0 in a cell that is empty.
    """

    archive: AbstractArchive
    flat: Float[Array, "cells dims"]
    quality: Float[Array, " cells"]
    descriptor: Float[Array, "cells entries"]
    extras: dict[str, Tree]

    @property
    def filled(self) -> Bool[Array, " cells"]:
        """Whether a cell has an elite."""
        return self.quality > -jnp.inf

    def sample(self, key: PRNGKeyArray, number: int) -> Int[Array, " number"]:
        """Return the cells of elites drawn at random, each with the same probability.

        If all cells are empty, it is the last one, which holds the start.

        **Arguments:**

        - `key`: the key.
        - `number`: how many, with replacement.
        """
        order = jnp.cumsum(self.filled, dtype=jnp.int32)
        drawn = jr.randint(quick(key), (number,), 1, jnp.maximum(order[-1], 1) + 1)
        return jnp.minimum(jnp.searchsorted(order, drawn), len(order) - 1)


class Told(eqx.Module):
    """What became of a generation of individuals, with any leading axes of them.

    - `population`: flat individuals.
    - `quality`: their fitness, with the sign such that larger is better; minus infinity
        of those that are not usable.
    - `descriptor`: their descriptors; 0 of those that are not usable.
    - `share`: where these lie: 0 at the archive's lower bounds, 1 at the upper ones.
    - `usable`: whether an individual, its fitness and its descriptor are finite, and
        the latter two at most 1e15.
    - `cell`: the number of its cell.
    - `before`: the quality of the cell's elite before the generation; minus infinity if
        there was none.
    - `added`: whether it is the elite of its cell now.
    """

    population: Float[Array, "*pop dims"]
    quality: Float[Array, "*pop"]
    descriptor: Float[Array, "*pop entries"]
    share: Float[Array, "*pop entries"]
    usable: Bool[Array, "*pop"]
    cell: Int[Array, "*pop"]
    before: Float[Array, "*pop"]
    added: Bool[Array, "*pop"]

    @property
    def new(self) -> Bool[Array, "*pop"]:
        """Whether a usable individual lies in a cell that was empty."""
        return self.usable & (self.before == -jnp.inf)

    @property
    def better(self) -> Bool[Array, "*pop"]:
        """Whether it is better than the elite of its cell before, if there was one."""
        return self.quality > self.before

    @property
    def gain(self) -> Float[Array, "*pop"]:
        """By how much it is better than that elite; its quality if there was none."""
        return jnp.where(self.new, self.quality, self.quality - self.before)


def inserted(
    elites: Elites,
    population: Float[Array, "pop dims"],
    quality: Float[Array, " pop"],
    descriptor: Float[Array, "pop entries"],
    usable: Bool[Array, " pop"],
    extras: dict[str, Tree],
) -> tuple[Elites, Told]:
    """Insert a generation into an archive.

    In each cell the best stays. Of equal ones it is the elite, and else the first.

    **Arguments:**

    - `elites`: those so far.
    - `population`, `descriptor`: one individual in each row.
    - `quality`: larger is better.
    - `usable`: those that are not do not enter.
    - `extras`: what is kept of each individual, by name.

    **Returns:** The elites after it, and what became of the individuals.
    """
    cells, size = len(elites.quality), len(population)
    quality = jnp.where(usable, quality, -jnp.inf)
    descriptor = jnp.where(usable[:, None], descriptor, 0)
    archive, cell = elites.archive.place(descriptor, usable)
    before = elites.quality[cell]
    candidate = quality > before
    best = elites.quality.at[cell].max(quality)
    candidate &= quality == best[cell]
    number = jnp.arange(size, dtype=jnp.int32)
    first = jnp.full(cells, size, jnp.int32)
    first = first.at[jnp.where(candidate, cell, cells)].min(number, mode="drop")
    added = candidate & (first[cell] == number)
    target = jnp.where(added, cell, cells)

    def put(kept: Array, new: Array) -> Array:
        return kept.at[target].set(new.astype(kept.dtype), mode="drop")

    after = Elites(
        archive=archive,
        flat=put(elites.flat, population),
        quality=best,
        descriptor=put(elites.descriptor, descriptor),
        extras=jax.tree.map(put, elites.extras, extras),
    )
    share = archive.share(descriptor)
    told = Told(population, quality, descriptor, share, usable, cell, before, added)
    return after, told


def no_elites(
    archive: AbstractArchive, start: Float[Array, " dims"], extras: dict[str, Any]
) -> Elites:
    """Return the elites of an archive whose cells are all empty.

    **Arguments:**

    - `archive`: the archive.
    - `start`: the individual in whose place emitters draw while all cells are empty.
    - `extras`: what is kept of each individual of a generation, by name.
    """
    cells, dtype = archive.cells, start.dtype

    def empty(x: Array) -> Array:
        return jnp.zeros((cells, *x.shape[1:]), x.dtype)

    return Elites(
        archive=archive,
        flat=jnp.broadcast_to(start, (cells, len(start))),
        quality=jnp.full(cells, -jnp.inf, dtype),
        descriptor=jnp.zeros((cells, archive.dims), dtype),
        extras=jax.tree.map(empty, extras),
    )
