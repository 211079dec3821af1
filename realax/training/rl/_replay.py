"""The replay buffer: the latest rows of experience, to be sampled again and again."""

import dataclasses
import math
from typing import Any, SupportsIndex

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int

from ..._arguments import arguments, whole
from ..._errors import describe
from ..._keys import quick
from ..._types import PRNGKeyArray, Tree


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """A leaf of a row: its shape, and its columns in the array of its type."""

    shape: tuple[int, ...]
    array: int
    start: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class _Outline:
    """The structure of a row, and the type and width of each array of the storage."""

    treedef: Any
    leaves: tuple[_Leaf, ...]
    arrays: tuple[tuple[Any, int], ...]

    @classmethod
    def of(cls, row: Tree) -> "_Outline":
        found, treedef = jax.tree.flatten(row)
        types, widths, leaves = list[Any](), list[int](), list[_Leaf]()
        for leaf in found:
            _check_leaf(leaf)
            shape, dtype = tuple(jnp.shape(leaf)), jnp.result_type(leaf)
            if dtype not in types:
                types.append(dtype)
                widths.append(0)
            array = types.index(dtype)
            leaves.append(_Leaf(shape, array, widths[array]))
            widths[array] += math.prod(shape)
        if not leaves:
            raise ValueError(
                f"`row` must hold at least one array, but got {describe(row)}."
            )
        return cls(treedef, tuple(leaves), tuple(zip(types, widths, strict=True)))


class ReplayBuffer[R](eqx.Module):
    """Holds the latest rows of experience, and returns random ones of them.

    All memory is allocated at once. The arrays of a row that have one type lie side by
    side in one array of shape `(capacity, numbers)`, so that a row is contiguous, and
    is written and read by one operation for each type. Inside of a compiled run the
    storage is written in place.

    Make one by `ReplayBuffer.new`.

    - `storage`: an array for each type of number.
    - `position`: the place of the next row.
    - `stored`: the number of rows that are stored.
    """

    storage: tuple[Array, ...]
    position: Int[Array, ""]
    stored: Int[Array, ""]
    outline: _Outline = eqx.field(static=True)
    block: int = eqx.field(static=True)

    @classmethod
    @arguments(capacity=whole(), block=whole())
    def new(
        cls, row: R, capacity: SupportsIndex, block: SupportsIndex = 1
    ) -> "ReplayBuffer[R]":
        """Return an empty buffer.

        **Arguments:**

        - `row`: a row, or a tree of `jax.ShapeDtypeStruct`, for shapes and types: any
            tree of arrays of numbers.
        - `capacity`: the number of rows to hold. Later ones replace the oldest.
        - `block`: rows are added by multiples of this number, a divisor of `capacity`.

        **Raises:** `ValueError` if `block` does not divide `capacity`, and for a row
        without arrays; `TypeError` for leaves that are no arrays of numbers.
        """
        size, block = int(capacity), int(block)
        if size % block:
            raise ValueError(
                f"`capacity` of `ReplayBuffer` must be a multiple of `block`, which is "
                f"{block}, but got {size}."
            )
        outline = _Outline.of(row)
        storage = tuple(
            jnp.zeros((size, width), kind) for kind, width in outline.arrays
        )
        # Two arrays, as a program that reuses the memory of the buffer needs.
        position, stored = (jnp.zeros((), jnp.int32) for _ in range(2))
        return cls(storage, position, stored, outline, block)

    @property
    def capacity(self) -> int:
        """The number of rows that it can hold."""
        return self.storage[0].shape[0]

    def add(self, rows: R) -> "ReplayBuffer[R]":
        """Return the buffer with more rows, in place of the oldest if it is full.

        **Arguments:**

        - `rows`: a row with a leading axis on each array, in the order of time.

        **Raises:** `ValueError`, while tracing, for rows of another structure, and for
        a number of them that is no multiple of `block` or exceeds the capacity.
        """
        packed, count = self._packed(rows)

        def write(carry: Any, part: Any) -> tuple[Any, None]:
            storage, position = carry
            storage = tuple(
                jax.lax.dynamic_update_slice(
                    array, new, (position, jnp.zeros_like(position))
                )
                for array, new in zip(storage, part, strict=True)
            )
            return (storage, (position + self.block) % self.capacity), None

        carry = self.storage, self.position
        if count == self.block:
            carry, _ = write(carry, packed)
        else:
            parts = tuple(
                x.reshape(count // self.block, self.block, x.shape[1]) for x in packed
            )
            carry, _ = jax.lax.scan(write, carry, parts)
        storage, position = carry
        # Otherwise XLA may read the rows before as well, and copy all of them for that.
        storage = jax.lax.optimization_barrier(storage)
        stored = jnp.minimum(self.stored + count, self.capacity)
        return ReplayBuffer(storage, position, stored, self.outline, self.block)

    def places(self, key: PRNGKeyArray, size: int) -> Int[Array, " size"]:
        """Return random places of stored rows, all as likely as others.

        **Arguments:**

        - `key`: all randomness comes from it.
        - `size`: how many places, which may repeat.
        """
        # Of a million rows, some are likelier by 1 in 4000. `jr.randint` draws twice as
        # many numbers to avoid that.
        stored = jnp.maximum(self.stored, 1).astype(jnp.uint32)
        return (jr.bits(quick(key), (size,), jnp.uint32) % stored).astype(jnp.int32)

    def rows(self, places: Int[Array, " size"]) -> R:
        """Return the rows at some places, with a leading axis on each array.

        **Arguments:**

        - `places`: from `places` or `later`.
        """
        outline = self.outline
        found = [
            array.at[places].get(mode="promise_in_bounds") for array in self.storage
        ]
        leaves = [
            found[leaf.array][:, leaf.start : leaf.start + leaf.size].reshape(
                len(places), *leaf.shape
            )
            for leaf in outline.leaves
        ]
        return jax.tree.unflatten(outline.treedef, leaves)

    def sample(self, key: PRNGKeyArray, size: int) -> R:
        """Return random rows, with a leading axis on each array."""
        return self.rows(self.places(key, size))

    def newer(self, places: Int[Array, " size"]) -> Int[Array, " size"]:
        """Return how many rows were added after those at some places."""
        return (self.position - 1 - places) % self.capacity

    def later(self, places: Int[Array, " size"], count: int) -> Int[Array, " size"]:
        """Return the places of the rows that were added `count` rows later."""
        return (places + count) % self.capacity

    def _packed(self, rows: R) -> tuple[list[Array], int]:
        """Return the rows as arrays of the storage's types, and their number."""
        outline = self.outline
        leaves, treedef = jax.tree.flatten(rows)
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        kinds = [outline.arrays[leaf.array][0] for leaf in outline.leaves]
        fits = treedef == outline.treedef and all(
            got.ndim > 0 and got.shape[1:] == leaf.shape and got.dtype == kind
            for got, leaf, kind in zip(leaves, outline.leaves, kinds, strict=True)
        )
        counts = {leaf.shape[0] for leaf in leaves} if fits else set[int]()
        if len(counts) != 1:
            row = zip(kinds, outline.leaves, strict=True)
            raise ValueError(
                "`rows` must have the arrays of the `row` of `ReplayBuffer.new` with "
                "one more leading axis, but got "
                f"{[f'{x.dtype}{list(x.shape)}' for x in leaves]} where a row has "
                f"{[f'{kind}{list(leaf.shape)}' for kind, leaf in row]}."
            )
        (count,) = counts
        if count == 0 or count % self.block or count > self.capacity:
            raise ValueError(
                f"the number of `rows` must be a multiple of `block`, which is "
                f"{self.block}, and at most {self.capacity}, but got {count}."
            )
        arrays = [list[Array]() for _ in outline.arrays]
        for got, leaf in zip(leaves, outline.leaves, strict=True):
            arrays[leaf.array].append(got.reshape(count, leaf.size))
        return [jnp.concatenate(parts, axis=1) for parts in arrays], count


def _check_leaf(leaf: Any) -> None:
    kind = getattr(leaf, "dtype", None)
    plain = kind is None and isinstance(leaf, bool | int | float | complex)
    if plain or (kind is not None and _is_number(kind)):
        return
    raise TypeError(
        "`row` of `ReplayBuffer` must be a tree of arrays of numbers, but got "
        f"{describe(leaf)}. Store the numbers of a random key, "
        "`jax.random.key_data(key)`, and no other objects."
    )


def _is_number(kind: Any) -> bool:
    if jnp.issubdtype(kind, jax.dtypes.extended):
        return False
    return jnp.issubdtype(kind, jnp.number) or jnp.issubdtype(kind, jnp.bool_)
