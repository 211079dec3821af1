"""Parameters as flat vectors, and values that can key a cache."""

# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import dataclasses
import math
from collections.abc import Hashable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from ._types import Tree


def identity[T](x: T) -> T:
    """`x` itself: one function object, so that defaults compare equal."""
    return x


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

    def __init__(self, tree: P):
        leaves, treedef = jax.tree.flatten(tree)
        object.__setattr__(self, "treedef", treedef)
        object.__setattr__(self, "leaves", tuple(map(_describe, leaves)))
        for leaf in self._trained:
            if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
                raise TypeError(
                    "`params_like` must hold real arrays where it is trained, but a "
                    f"{leaf.dtype} array of shape {leaf.shape} came. Hold its real and "
                    "imaginary parts as two arrays."
                )
        try:
            hash((self.treedef, self.leaves))
        except TypeError as error:
            raise TypeError(
                "what is not an array in `params_like` must be hashable, because it "
                f"decides what is compiled: {error}. Use arrays, functions, numbers, "
                "strings, and tuples of them."
            ) from error
        if self.size == 0:
            raise ValueError(
                "`params_like` must hold at least one floating-point array, but "
                f"{_summary(leaves)} came. Python numbers and integer arrays are kept "
                "as they are; write `jnp.zeros(...)` for what shall be trained."
            )

    @property
    def _trained(self) -> list[_Leaf]:
        return [leaf for leaf in self.leaves if isinstance(leaf, _Leaf)]

    @property
    def size(self) -> int:
        """The number of trained scalars."""
        return sum(math.prod(leaf.shape) for leaf in self._trained)

    def flatten(self, tree: P) -> tuple[Float[Array, " size"], tuple[Array, ...]]:
        """The trained scalars of `tree` in jax's default float dtype, and the rest."""
        leaves = [jnp.asarray(x) for x in jax.tree.leaves(tree) if eqx.is_array(x)]
        trained = [leaf for leaf in leaves if eqx.is_inexact_array(leaf)]
        rest = tuple(leaf for leaf in leaves if not eqx.is_inexact_array(leaf))
        dtype = jnp.result_type(float)
        flat = jnp.concatenate([jnp.ravel(leaf).astype(dtype) for leaf in trained])
        return flat, rest

    def unflatten(self, flat: Float[Array, "*batch size"], rest: Tree) -> P:
        """The tree whose trained scalars are `flat`, each leaf in its own dtype.

        **Arguments:**

        - `flat`: one vector, or a batch with any leading axes.
        - `rest`: the other arrays, as `flatten` returned them, with the leading axes
            of `flat`.
        """
        batch = flat.shape[:-1]
        others, start, leaves = iter(rest), 0, list[Any]()
        for leaf in self.leaves:
            if isinstance(leaf, _Leaf):
                stop = start + math.prod(leaf.shape)
                part = flat[..., start:stop].reshape(batch + leaf.shape)
                leaves.append(part.astype(leaf.dtype))
                start = stop
            else:
                leaves.append(next(others) if leaf is None else leaf)
        return jax.tree.unflatten(self.treedef, leaves)


def _describe(leaf: Any) -> Any:
    if eqx.is_inexact_array(leaf):
        return _Leaf(tuple(leaf.shape), leaf.dtype)
    return None if eqx.is_array(leaf) else leaf


def _summary(leaves: list[Any]) -> str:
    return f"{[type(leaf).__name__ for leaf in leaves]}" if leaves else "an empty tree"


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Keyword arguments that compare by value, to key a cache or be a static field."""

    items: tuple[tuple[str, Hashable], ...]

    def thaw(self) -> dict[str, Any]:
        """A dictionary equal to the one that was frozen."""
        return {name: _thaw(value) for name, value in self.items}


def freeze(kws: Mapping[str, Any] | None) -> Frozen:
    """`kws` as a value; `None` is no keyword at all."""
    return Frozen(tuple((k, _freeze(v)) for k, v in sorted((kws or {}).items())))


@dataclasses.dataclass(frozen=True)
class _FrozenList:
    values: tuple[Hashable, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class _ById:
    """A value without a useful hash, such as an array: equal to itself alone."""

    value: Any

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.value is self.value


def _freeze(value: Any) -> Hashable:
    if isinstance(value, Tracer):
        raise TypeError(
            "keywords that decide what is compiled must be plain values, but a traced "
            f"{value.aval} came. What shall be mapped over or differentiated belongs "
            "into the array leaves, such as `es_params` and `env_params`."
        )
    if eqx.is_array(value) and value.size == 1:
        return value.item()
    if isinstance(value, Mapping):
        return freeze(value)
    if isinstance(value, list):
        return _FrozenList(tuple(_freeze(item) for item in value))
    try:
        hash(value)
    except TypeError:
        return _ById(value)
    return value


def _thaw(value: Any) -> Any:
    match value:
        case Frozen():
            return value.thaw()
        case _FrozenList():
            return [_thaw(item) for item in value.values]
        case _ById():
            return value.value
        case _:
            return value
