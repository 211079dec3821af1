"""Small operations on trees of arrays and on modules."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._check import no_type_check
from ._types import Tree


def strong(tree: Tree) -> Tree:
    """Return `tree` with each leaf as an array of a strong dtype.

    A step returns a state of strong dtypes. A first state of weak dtypes would
    therefore compile the same program a second time.
    """

    def convert(leaf: Any) -> Array:
        if isinstance(leaf, jax.Array) and not jax.typeof(leaf).weak_type:
            return leaf
        return jnp.asarray(leaf, dtype=jnp.asarray(leaf).dtype)

    return jax.tree.map(convert, tree)


def where(condition: Array, yes: Tree, no: Tree) -> Tree:
    """Select with `jnp.where` between the arrays of two trees of one structure."""

    def choose(a: Any, b: Any) -> Any:
        return jnp.where(condition, a, b) if eqx.is_array_like(a) else a

    return jax.tree.map(choose, yes, no)


def with_fields[M: eqx.Module](module: M, **values: Any) -> M:
    """Return a copy of a module with other values in some of its fields.

    Neither `__init__` nor the checks of the module run again.
    """
    copy = object.__new__(type(module))
    for field in dataclasses.fields(module):
        value = values.get(field.name, getattr(module, field.name))
        object.__setattr__(copy, field.name, value)
    return copy


@no_type_check
def is_lost(tree: Tree) -> bool:
    """Return whether the memory of an array of a tree was written over by a run."""
    return any(
        isinstance(leaf, jax.Array) and leaf.is_deleted()
        for leaf in jax.tree.leaves(tree)
    )
