"""Small operations on trees of arrays."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._types import Tree


def strong(tree: Tree) -> Tree:
    """`tree` with every leaf an array of a strong dtype.

    A weakly typed first state has another type than the one a step returns, and
    compiles the same program twice.
    """
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, dtype=jnp.asarray(leaf).dtype), tree
    )


def where(condition: Array, yes: Tree, no: Tree) -> Tree:
    """`jnp.where` over the arrays of two trees of the same structure."""

    def choose(a: Any, b: Any) -> Any:
        return jnp.where(condition, a, b) if eqx.is_array_like(a) else a

    return jax.tree.map(choose, yes, no)


def with_fields[M: eqx.Module](module: M, **values: Any) -> M:
    """A copy of a module with other values in some of its fields.

    Neither its `__init__` nor its checks run again.
    """
    copy = object.__new__(type(module))
    for field in dataclasses.fields(module):
        value = values.get(field.name, getattr(module, field.name))
        object.__setattr__(copy, field.name, value)
    return copy
