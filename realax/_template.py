"""Conversion of trees to flat vectors and back."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._frozen import Typed
from ._types import Tree


@dataclasses.dataclass(frozen=True)
class _Leaf:
    shape: tuple[int, ...]
    dtype: Any


@dataclasses.dataclass(frozen=True, init=False)
class Template[P]:
    """Converts a user's tree to a flat vector and back.

    The vector holds only the inexact arrays of the tree. The other leaves are kept:
    `flatten` returns other arrays as `rest`, and the template stores everything that
    is not an array (activation functions, sizes, names). Two templates of equal trees
    are equal, so that a template can be a static field of a state or a trainer.
    """

    treedef: Any
    leaves: tuple[Any, ...]

    def __init__(self, tree: P, phrase: str = "`params_like`"):
        leaves, treedef = jax.tree.flatten(tree)
        object.__setattr__(self, "treedef", treedef)
        object.__setattr__(self, "leaves", tuple(map(_describe, leaves)))
        for leaf in self._trained:
            if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
                raise TypeError(
                    f"{phrase} must hold real arrays to be trained, but got a "
                    f"{leaf.dtype} array of shape {leaf.shape}. Store its real and "
                    "imaginary parts as two arrays."
                )
        try:
            hash((self.treedef, self.leaves))
        except TypeError as error:
            raise TypeError(
                f"leaves of {phrase} that are not arrays must be hashable, because "
                f"they decide what is compiled: {error}. Use arrays, functions, "
                "numbers, strings, and tuples of them."
            ) from error
        if self.size == 0:
            raise ValueError(
                f"{phrase} must hold at least one floating-point array, but got "
                f"{_summary(leaves)}. Python numbers and integer arrays are kept "
                "as they are; write trained parameters as arrays, such as "
                "`jnp.zeros(...)`."
            )

    @property
    def _trained(self) -> list[_Leaf]:
        return [leaf for leaf in self.leaves if isinstance(leaf, _Leaf)]

    @property
    def size(self) -> int:
        """The number of trained scalars."""
        return sum(math.prod(leaf.shape) for leaf in self._trained)

    def split(self, tree: P) -> tuple[Tree, tuple[Array, ...]]:
        """Split `tree` into its trained arrays and its other arrays.

        **Returns:** `(trained, rest)`: `tree` with `None` in place of each leaf that is
        not trained, and the other arrays in order.
        """
        arrays = eqx.filter(tree, eqx.is_array)
        trained, rest = eqx.partition(arrays, eqx.is_inexact_array)
        return jax.tree.map(jnp.asarray, trained), tuple(
            jnp.asarray(leaf) for leaf in jax.tree.leaves(rest)
        )

    def join(self, trained: Tree, rest: Tree) -> P:
        """Rebuild the tree from the two results of `split`, in the same order."""
        trained, others = iter(jax.tree.leaves(trained)), iter(rest)
        leaves = list[Any]()
        for leaf in self.leaves:
            if isinstance(leaf, _Leaf):
                leaves.append(next(trained))
            else:
                leaves.append(next(others) if leaf is None else leaf.value)
        return jax.tree.unflatten(self.treedef, leaves)

    def flatten(self, tree: P) -> tuple[Float[Array, " size"], tuple[Array, ...]]:
        """Return the trained scalars of `tree` as one vector, and its other arrays.

        The vector has jax's default float dtype.
        """
        trained, rest = self.split(tree)
        dtype = jnp.result_type(float)
        flat = jnp.concatenate(
            [jnp.ravel(x).astype(dtype) for x in jax.tree.leaves(trained)]
        )
        return flat, rest

    def unflatten(self, flat: Float[Array, "*batch size"], rest: Tree) -> P:
        """Rebuild the tree of the trained scalars `flat`, each leaf in its own dtype.

        **Arguments:**

        - `flat`: one vector, or a batch with any leading axes.
        - `rest`: the other arrays that `flatten` returned, with the leading axes of
            `flat`.

        **Returns:** The tree, whose arrays have the leading axes of `flat`.
        """
        batch = flat.shape[:-1]
        start, parts = 0, list[Any]()
        for leaf in self._trained:
            stop = start + math.prod(leaf.shape)
            part = flat[..., start:stop].reshape(batch + leaf.shape)
            parts.append(part.astype(leaf.dtype))
            start = stop
        return self.join(parts, rest)


def _describe(leaf: Any) -> Any:
    if eqx.is_inexact_array(leaf):
        return _Leaf(tuple(leaf.shape), leaf.dtype)
    return None if eqx.is_array(leaf) else Typed(type(leaf), leaf)


def _summary(leaves: list[Any]) -> str:
    return f"{[type(leaf).__name__ for leaf in leaves]}" if leaves else "an empty tree"
