"""The text and the parts by which an object is compared with another."""

import dataclasses
import enum
import functools
import hashlib
import inspect
import pathlib
import pickle
import types
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.tree_util import PyTreeDef

from .._parts import CONTAINERS, PLAIN, Part, is_numeric, parts_of
from . import _code


# What has more parts is described once, and by its digest where it comes again.
LARGE = 64
CODE = " (code)"
_LONG = 200  # characters


def _plain(value: Any) -> str:
    if isinstance(value, bytes) and len(value) > _LONG:  # `repr` would take long
        return f"{len(value)} bytes ({hashlib.sha256(value).hexdigest()[:12]})"
    text = repr(value)
    if len(text) <= _LONG:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{text[:40]}... of {len(text)} characters ({digest})"


def leaf_text(value: Any) -> str | None:
    """The text of what has no parts."""
    if isinstance(value, PLAIN):
        return _plain(value)
    if isinstance(value, _Text):
        return value.text
    if is_numeric(value):
        return _array(value)
    if isinstance(value, enum.Enum):
        own = f" = {value.value!r}" if isinstance(value.value, PLAIN) else ""
        return f"{_qualified(type(value))}.{value.name}{own}"
    if isinstance(value, pathlib.PurePath | range | slice | np.dtype):
        return _plain(value)
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, list | tuple) and len(value) > LARGE:
        if all(isinstance(item, PLAIN) for item in value):
            return f"{type(value).__name__} of {len(value)}: {_plain(value)}"
    return None


def own_text(value: Any) -> str | None:
    """The text of an object beside its parts."""
    if isinstance(value, type):
        return _qualified(value)
    if isinstance(value, functools.partial) or inspect.ismethod(value):
        return None
    if isinstance(value, types.FunctionType):
        made_by = value.__code__.co_qualname
        name = _qualified(value)
        # A decorator of a library gives its own function the name of another.
        return name if name.endswith(made_by) else f"{name}, made by {made_by}"
    if isinstance(value, CONTAINERS):
        return f"{type(value).__name__} of {len(value)}"
    if callable(value) and hasattr(value, "__qualname__"):
        return _qualified(value)
    return _qualified(type(value))


def all_parts(value: Any) -> list[Part]:
    parts = parts_of(value)
    if isinstance(value, types.FunctionType):
        if _code.is_users(value.__code__):
            parts += [(CODE, _Text(_code.digest_of(value.__code__)))]
            parts += _code.globals_of(value)
    elif isinstance(value, type):
        if _code.is_users_class(value):
            parts += _code.methods_of(value)
            bases = filter(_code.is_users_class, value.__bases__)
            parts += [(f"base {base.__name__}", base) for base in bases]
    else:
        if _is_opaque(value) and not (parts and _has_usual_pickle(type(value))):
            parts = _reduced(value) or parts
        if _code.is_users_class(type(value)):
            parts += [(" (class)", type(value))]
    return parts


@dataclasses.dataclass(frozen=True)
class _Text:
    """A text that stands for itself."""

    text: str


def _is_opaque(value: Any) -> bool:
    known = (*CONTAINERS, functools.partial, types.MethodType, np.ndarray, PyTreeDef)
    return not isinstance(value, known)


def _has_usual_pickle(cls: type) -> bool:
    usual = cls.__reduce__ is object.__reduce__
    return usual and cls.__reduce_ex__ is object.__reduce_ex__


def _reduced(value: Any) -> list[Part]:
    """The contents of an object as pickle sees them.

    Of one that is written in C, such as `Decimal`, and of one that says itself what it
    is made from: a `logging.Logger`, which knows all others, of its name.
    """
    try:
        reduced = value.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    except (TypeError, ValueError, AttributeError, RuntimeError, pickle.PickleError):
        return []  # a lock, a file, a handle: nothing to compare
    if not isinstance(reduced, tuple):
        return []
    # What it is made from, its state, its items; not the function that makes it.
    items = [list(part) if isinstance(part, Iterator) else part for part in reduced[1:]]
    return [(f"[{i}]", item) for i, item in enumerate(items)]


def _qualified(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{value.__qualname__}"


def _array(value: Any) -> str:
    keys = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    data = np.ascontiguousarray(jr.key_data(value) if keys else value)
    bytes_ = data.reshape(-1).view(np.uint8)
    digest = hashlib.sha256(memoryview(bytes_)).hexdigest()[:12]
    if data.size == 1 and not keys:
        return f"{_name_of(data.dtype)} {data.reshape(-1)[0]!s} ({digest})"
    return f"{_name_of(value.dtype)}{list(value.shape)} ({digest})"


_name_of = functools.lru_cache(maxsize=256)(str)  # of a dtype: numpy's takes 10 us
