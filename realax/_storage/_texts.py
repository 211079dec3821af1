"""The text and the parts by which two objects are compared."""

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


# An object of more parts is described once, and elsewhere by its digest.
LARGE = 64
CODE = " (code)"
_MAX_LENGTH = 200  # of a text, in characters


def _plain_text(value: Any) -> str:
    if isinstance(value, bytes) and len(value) > _MAX_LENGTH:  # `repr` takes long
        return f"{len(value)} bytes ({hashlib.sha256(value).hexdigest()[:12]})"
    text = repr(value)
    if len(text) <= _MAX_LENGTH:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{text[:40]}... of {len(text)} characters ({digest})"


def leaf_text(value: Any) -> str | None:
    """Return the text of an object without parts, or `None` for other objects."""
    if isinstance(value, PLAIN):
        return _plain_text(value)
    if isinstance(value, _Text):
        return value.text
    if is_numeric(value):
        return _array_text(value)
    if isinstance(value, enum.Enum):
        own = f" = {value.value!r}" if isinstance(value.value, PLAIN) else ""
        return f"{_qualified(type(value))}.{value.name}{own}"
    if isinstance(value, pathlib.PurePath | range | slice | np.dtype):
        return _plain_text(value)
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, list | tuple) and len(value) > LARGE:
        if all(isinstance(item, PLAIN) for item in value):
            return f"{type(value).__name__} of {len(value)}: {_plain_text(value)}"
    return None


def own_text(value: Any) -> str | None:
    """Return the text that describes an object in addition to its parts."""
    if isinstance(value, type):
        return _qualified(value)
    if isinstance(value, functools.partial) or inspect.ismethod(value):
        return None
    if isinstance(value, types.FunctionType):
        made_by = value.__code__.co_qualname
        name = _qualified(value)
        # A decorator's inner function often has the name of the one it wraps.
        return name if name.endswith(made_by) else f"{name}, made by {made_by}"
    if isinstance(value, CONTAINERS):
        return f"{type(value).__name__} of {len(value)}"
    if callable(value) and hasattr(value, "__qualname__"):
        return _qualified(value)
    return _qualified(type(value))


def all_parts(value: Any) -> list[Part]:
    """Return the parts of an object, including the code of the user."""
    parts = parts_of(value)
    if isinstance(value, types.FunctionType):
        if _code.is_user_code(value.__code__):
            parts += [(CODE, _Text(_code.digest_of(value.__code__)))]
            parts += _code.globals_of(value)
    elif isinstance(value, type):
        if _code.is_user_class(value):
            parts += _code.methods_of(value)
            bases = filter(_code.is_user_class, value.__bases__)
            parts += [(f"base {base.__name__}", base) for base in bases]
    else:
        if _is_opaque(value) and not (parts and _has_default_pickle(type(value))):
            parts = _pickled_parts(value) or parts
        if _code.is_user_class(type(value)):
            parts += [(" (class)", type(value))]
    return parts


@dataclasses.dataclass(frozen=True)
class _Text:
    """A part that is a text already, such as a digest of code."""

    text: str


def _is_opaque(value: Any) -> bool:
    known = (*CONTAINERS, functools.partial, types.MethodType, np.ndarray, PyTreeDef)
    return not isinstance(value, known)


def _has_default_pickle(cls: type) -> bool:
    usual = cls.__reduce__ is object.__reduce__
    return usual and cls.__reduce_ex__ is object.__reduce_ex__


def _pickled_parts(value: Any) -> list[Part]:
    """Return the contents of an object that pickle would store.

    They describe objects written in C, such as a `Decimal`, and objects that define how
    they are pickled: a `logging.Logger` refers to all others but is pickled by name.
    """
    try:
        reduced = value.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    except (TypeError, ValueError, AttributeError, RuntimeError, pickle.PickleError):
        return []  # a lock or an open file, for example
    if not isinstance(reduced, tuple):
        return []
    # The first entry is the function that rebuilds the object. It holds no contents.
    items = [list(part) if isinstance(part, Iterator) else part for part in reduced[1:]]
    return [(f"[{i}]", item) for i, item in enumerate(items)]


def _qualified(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{value.__qualname__}"


def _array_text(value: Any) -> str:
    keys = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    data = np.ascontiguousarray(jr.key_data(value) if keys else value)
    bytes_ = data.reshape(-1).view(np.uint8)
    digest = hashlib.sha256(memoryview(bytes_)).hexdigest()[:12]
    if data.size == 1 and not keys:
        return f"{_dtype_name(data.dtype)} {data.reshape(-1)[0]!s} ({digest})"
    return f"{_dtype_name(value.dtype)}{list(value.shape)} ({digest})"


# Cached, because the name of a numpy dtype takes 10 us.
_dtype_name = functools.lru_cache(maxsize=256)(str)
