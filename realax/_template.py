"""Trees as flat vectors, and back."""

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
    """How a flat vector becomes a user's own tree again.

    Only inexact arrays of the tree enter the vector. What else it holds is kept:
    other arrays as `rest`, given back by `flatten`; everything that is not an array
    (activation functions, sizes, names) in here. Two templates of equal trees are
    equal, so that they may be static fields of states and trainers.
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
                    f"{phrase} must hold real arrays where it is trained, but got a "
                    f"{leaf.dtype} array of shape {leaf.shape}. Hold its real and "
                    "imaginary parts as two arrays."
                )
        try:
            hash((self.treedef, self.leaves))
        except TypeError as error:
            raise TypeError(
                f"what is not an array in {phrase} must be hashable, because it "
                f"decides what is compiled: {error}. Use arrays, functions, numbers, "
                "strings, and tuples of them."
            ) from error
        if self.size == 0:
            raise ValueError(
                f"{phrase} must hold at least one floating-point array, but got "
                f"{_summary(leaves)}. Python numbers and integer arrays are kept "
                "as they are; write `jnp.zeros(...)` for what shall be trained."
            )

    @property
    def _trained(self) -> list[_Leaf]:
        return [leaf for leaf in self.leaves if isinstance(leaf, _Leaf)]

    @property
    def size(self) -> int:
        """The number of trained scalars."""
        return sum(math.prod(leaf.shape) for leaf in self._trained)

    def split(self, tree: P) -> tuple[Tree, tuple[Array, ...]]:
        """`tree` with `None` for all that is not trained, and its other arrays."""
        arrays = eqx.filter(tree, eqx.is_array)
        trained, rest = eqx.partition(arrays, eqx.is_inexact_array)
        return jax.tree.map(jnp.asarray, trained), tuple(
            jnp.asarray(leaf) for leaf in jax.tree.leaves(rest)
        )

    def join(self, trained: Tree, rest: Tree) -> P:
        """The tree that `split` took apart, from arrays in the same order."""
        trained, others = iter(jax.tree.leaves(trained)), iter(rest)
        leaves = list[Any]()
        for leaf in self.leaves:
            if isinstance(leaf, _Leaf):
                leaves.append(next(trained))
            else:
                leaves.append(next(others) if leaf is None else leaf.value)
        return jax.tree.unflatten(self.treedef, leaves)

    def flatten(self, tree: P) -> tuple[Float[Array, " size"], tuple[Array, ...]]:
        """The trained scalars of `tree` in jax's default float dtype, and the rest."""
        trained, rest = self.split(tree)
        dtype = jnp.result_type(float)
        flat = jnp.concatenate(
            [jnp.ravel(x).astype(dtype) for x in jax.tree.leaves(trained)]
        )
        return flat, rest

    def unflatten(self, flat: Float[Array, "*batch size"], rest: Tree) -> P:
        """The tree whose trained scalars are `flat`, each leaf in its own dtype.

        **Arguments:**

        - `flat`: one vector, or a batch with any leading axes.
        - `rest`: the other arrays, as `flatten` returned them, with the leading axes
            of `flat`.
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
