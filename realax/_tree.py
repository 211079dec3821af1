"""Parameters as flat vectors, and values that can key a cache."""

# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from ._types import Tree


def cached[**A, R](build: Callable[A, R]) -> Callable[A, R]:
    """`functools.lru_cache` for what is built of arrays, in each precision anew."""

    @functools.lru_cache(maxsize=256)
    def build_in(precision: Any, *args: A.args, **kwargs: A.kwargs) -> R:
        del precision
        return build(*args, **kwargs)

    @functools.wraps(build)
    def wrapper(*args: A.args, **kwargs: A.kwargs) -> R:
        return build_in(jnp.result_type(float), *args, **kwargs)

    return wrapper


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


def stays_finite(before: Tree, after: Tree) -> Bool[Array, ""]:
    """Whether no number that was finite in `before` ceases to be in `after`."""
    pairs = [
        (old, new)
        for old, new in zip(*map(jax.tree.leaves, (before, after)), strict=True)
        if jnp.issubdtype(new.dtype, jnp.inexact)
    ]

    def look() -> Bool[Array, ""]:
        lost = [jnp.any(jnp.isfinite(old) & ~jnp.isfinite(new)) for old, new in pairs]
        return ~jnp.any(jnp.stack([jnp.asarray(False), *lost]))

    # A scalar product is several times faster than looking at each number, and is not
    # finite where one of them is not. Only then is it worth while to look. One for all
    # arrays of a shape: each costs a call, however small they are.
    alike = dict[Any, list[Array]]()
    for _, new in pairs:
        alike.setdefault((new.shape, new.dtype), []).append(new)
    glance = jnp.zeros(())
    for (shape, dtype), arrays in alike.items():
        tiny = jnp.full(shape, jnp.finfo(dtype).tiny, dtype)
        glance += jnp.vdot(functools.reduce(jnp.add, arrays), tiny)
    return jax.lax.cond(jnp.isfinite(glance), lambda: jnp.asarray(True), look)


def with_fields[M: eqx.Module](module: M, **values: Any) -> M:
    """A copy of a module with other values in some of its fields.

    Neither its `__init__` nor its checks run again.
    """
    copy = object.__new__(type(module))
    for field in dataclasses.fields(module):
        value = values.get(field.name, getattr(module, field.name))
        object.__setattr__(copy, field.name, value)
    return copy


@dataclasses.dataclass(frozen=True)
class _Leaf:
    shape: tuple[int, ...]
    dtype: Any


@dataclasses.dataclass(frozen=True)
class _Static:
    kind: type  # 2, 2.0 and True are equal, and not the same
    value: Any


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
    return None if eqx.is_array(leaf) else _Static(type(leaf), leaf)


def _summary(leaves: list[Any]) -> str:
    return f"{[type(leaf).__name__ for leaf in leaves]}" if leaves else "an empty tree"


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Keyword arguments that compare by value, to key a cache or be a static field."""

    items: tuple[tuple[str, Hashable], ...]

    def thaw(self) -> dict[str, Any]:
        """A dictionary equal to the one that was frozen."""
        return {name: _thaw(value) for name, value in self.items}


def freeze(kws: "Mapping[str, Any] | Frozen | None") -> Frozen:
    """`kws` as a value; `None` is no keyword at all, and what is frozen stays so.

    Values are the same where their types are too: 2, 2.0 and True are three.
    """
    if isinstance(kws, Frozen):
        return kws
    return Frozen(tuple((k, _freeze(v)) for k, v in sorted((kws or {}).items())))


@dataclasses.dataclass(frozen=True)
class _FrozenArray:
    kind: type
    shape: tuple[int, ...]
    dtype: Any
    bytes: bytes
    value: Any = dataclasses.field(compare=False)


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
            "keywords that decide what is compiled must be plain values, but got a "
            f"traced {value.aval}. What shall be mapped over or differentiated belongs "
            "into the array leaves, such as `es_params` and `env_params`."
        )
    if eqx.is_array(value) and not jnp.issubdtype(value.dtype, jax.dtypes.extended):
        if value.shape == ():
            value = value.item()
        elif value.size == 1:
            array = np.asarray(value)
            kind, shape, dtype = type(value), array.shape, array.dtype
            return _FrozenArray(kind, shape, dtype, array.tobytes(), value)
    if isinstance(value, Mapping):
        return freeze(value)
    if type(value) in (list, tuple):
        return _Static(type(value), tuple(_freeze(item) for item in value))
    try:
        hash(value)
    except TypeError:
        return _ById(value)
    return _Static(type(value), value)


def _thaw(value: Any) -> Any:
    match value:
        case Frozen():
            return value.thaw()
        case _Static(kind, inside) if kind in (list, tuple):
            return kind(_thaw(item) for item in inside)
        case _Static() | _ById() | _FrozenArray():
            return value.value
        case _:
            raise TypeError(f"{value!r} was not frozen.")
