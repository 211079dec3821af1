"""Keyword arguments that compare by value, and caches keyed by them."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def cached[**A, R](build: Callable[A, R]) -> Callable[A, R]:
    """Cache the results of `build` separately for each default float precision.

    Results hold arrays, whose dtype follows `jax_enable_x64`.
    """

    @functools.lru_cache(maxsize=256)
    def build_in(precision: Any, *args: A.args, **kwargs: A.kwargs) -> R:
        del precision
        return build(*args, **kwargs)

    @functools.wraps(build)
    def wrapper(*args: A.args, **kwargs: A.kwargs) -> R:
        return build_in(jnp.result_type(float), *args, **kwargs)

    return wrapper


def identity[T](x: T) -> T:
    """Return `x`. Defaults compare equal because they are this one function."""
    return x


@dataclasses.dataclass(frozen=True)
class Typed:
    """A value that equals only values of its own type."""

    kind: type  # 1, 1.0 and True are equal in Python
    value: Any


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Keyword arguments that compare by value, for cache keys and static fields."""

    items: tuple[tuple[str, Hashable], ...]

    def thaw(self) -> dict[str, Any]:
        """Return a dictionary equal to the one that was frozen."""
        return {name: _thaw(value) for name, value in self.items}


def freeze(kws: "Mapping[str, Any] | Frozen | None") -> Frozen:
    """Return keyword arguments as a hashable value that compares by value and type.

    `None` stands for no keywords, and a `Frozen` is returned unchanged. Values of
    different types differ, such as 1, 1.0 and True.

    **Raises:** `TypeError` for a traced array.
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
    """A value without a useful hash, such as an array, compared by identity."""

    value: Any

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.value is self.value


def _freeze(value: Any) -> Hashable:
    if isinstance(value, Tracer):
        raise TypeError(
            "keywords that decide what is compiled must be plain values, but got a "
            f"traced {value.aval}. Values to map over or to differentiate belong "
            "into array leaves, such as `es_params` and `env_params`."
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
        return Typed(type(value), tuple(_freeze(item) for item in value))
    try:
        hash(value)
    except TypeError:
        return _ById(value)
    return Typed(type(value), value)


def _thaw(value: Any) -> Any:
    match value:
        case Frozen():
            return value.thaw()
        case Typed(kind, inside) if kind in (list, tuple):
            return kind(_thaw(item) for item in inside)
        case Typed() | _ById() | _FrozenArray():
            return value.value
        case _:
            raise TypeError(f"{value!r} is not a frozen value.")
