"""The configuration of a run as text that can be compared in another process."""

# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import dataclasses
import enum
import functools
import hashlib
import importlib.metadata
import inspect
import os
import pathlib
import pickle
import platform
import types
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.tree_util import PyTreeDef

from . import _code
from ._parts import (
    CONTAINERS,
    PLAIN,
    Part,
    is_numeric,
    is_unordered,
    looked_through,
    parts_of,
)


_PACKAGES = ("realax", "jax", "jaxlib", "equinox", "optax", "evosax", "gymnax", "brax")
# More objects than these are no configuration, but data that should be an array.
_MOST = 100_000
# What is larger is described once, and by its digest where it comes again.
_LARGE = 64
_LONG = 200  # characters
_CODE = " (code)"
# How the programs of a task are compiled belongs to the environment of a run, which
# names the options of the trainer: they are an attribute of a task, not a field.
_OPTIONS = "compiler_options"


def configuration(value: Any, leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """A text for everything that `value` consists of, by its path.

    Arrays count by their contents; functions by their names, what they close over and
    their defaults, and those of the user also by their code and the global variables
    that it reads; modules by name; other objects by their class and their contents.
    Fields with the metadata `EXECUTION` are left out.

    **Arguments:**

    - `value`: a trainer, for example.
    - `leave_out`: names of fields of `value` that do not count.

    **Raises:** `ValueError` that names the path of more than 100,000 objects.
    """
    return dict(_described(value, leave_out)[0])


def execution(value: Any, leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """A text for each field with the metadata `EXECUTION` in `value`, by its path."""
    return _described(value, leave_out)[1]


def content_digest(value: Any) -> str:
    """A short digest of everything that `value` consists of."""
    return _Walk().node(value, "").digest.hex()[:12]


def environment() -> dict[str, str]:
    """Versions, devices and settings that can change the bits of a result."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    devices = jax.devices()
    found["devices"] = f"{len(devices)} x {devices[0].device_kind}"
    found["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "")
    found["jax_enable_x64"] = str(jax.config.jax_enable_x64)
    found["matmul precision"] = str(jax.config.jax_default_matmul_precision)
    return found


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The differences of two fingerprints, in words."""
    none = "nothing"
    return [
        f"{name.lstrip('.')}: {before.get(name, none)} then, {now.get(name, none)} now"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
        and not _of_other_pythons(name, before.get(name), now.get(name))
    ]


def _of_other_pythons(name: str, before: str | None, now: str | None) -> bool:
    if not name.endswith(_CODE) or before is None or now is None:
        return False
    return before.split()[0] != now.split()[0]


@dataclasses.dataclass(frozen=True)
class _Node:
    """An object: its own text, if it has one, and its parts by name."""

    text: str | None
    parts: tuple[tuple[str, "_Node"], ...]
    digest: bytes
    size: int  # in objects


def _described(
    value: Any, leave_out: tuple[str, ...]
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    walk = _Walk()
    node = walk.node(value, "", leave_out)
    return list(_texts(node, "", set())), walk.execution


def _texts(node: _Node, path: str, seen: set[bytes]) -> Iterator[tuple[str, str]]:
    if node.size > _LARGE:
        if node.digest in seen:
            yield path or ".", f"as elsewhere ({node.digest.hex()[:12]})"
            return
        seen.add(node.digest)
    if node.text is not None:
        yield (f"{path}#" if node.parts else path or "."), node.text
    for name, part in node.parts:
        yield from _texts(part, _joined(path, name), seen)


def _joined(path: str, name: str) -> str:
    return f"{path}{name}" if name[0] in "[ " else f"{path}.{name}"


class _Walk:
    """A walk through an object, each of its parts once, however often it is shared."""

    def __init__(self) -> None:
        self.execution = dict[str, str]()
        # The objects themselves are kept, or another might get the id of one of them.
        self._known = dict[int, tuple[Any, _Node]]()
        self._above = list[int]()
        self._count = 0

    def node(self, value: Any, path: str, leave_out: tuple[str, ...] = ()) -> _Node:
        """The description of `value`, which is at `path`."""
        value = looked_through(value)
        if id(value) in self._known:
            return self._known[id(value)][1]
        if id(value) in self._above:
            height = len(self._above) - self._above.index(id(value))
            return _made(f"what contains it, {height} above", ())
        self._count += 1
        if self._count > _MOST:
            raise ValueError(
                f"the configuration of a run can hold at most {_MOST:,} objects, but "
                f"there are more, at `{path.lstrip('.')[:200]}`. Hold large tables as "
                "numpy or jax arrays, which count as one."
            )
        self._above.append(id(value))
        try:
            node = self._new(value, path, leave_out)
        except RecursionError as error:
            raise ValueError(
                "the configuration of a run is nested too deeply, at "
                f"`{path.lstrip('.')[:200]}`. Hold it flat, as arrays."
            ) from error
        finally:
            self._above.pop()
        self._known[id(value)] = value, node
        return node

    def _new(self, value: Any, path: str, leave_out: tuple[str, ...]) -> _Node:
        if (text := _leaf(value)) is not None:
            return _made(text, ())
        text, parts = _own_text(value), _all_parts(value)
        if dataclasses.is_dataclass(value):
            leave_out += self._executed(value, path)
        nodes = [
            (name, self.node(part, _joined(path, name)))
            for name, part in parts
            if name not in leave_out and name.lstrip(".") != _OPTIONS
        ]
        if is_unordered(value):
            nodes.sort(key=lambda pair: pair[1].digest)
            nodes = [(f"[{i}]", node) for i, (_, node) in enumerate(nodes)]
        return _made(text, tuple(nodes))

    def _executed(self, value: Any, path: str) -> tuple[str, ...]:
        """The names of the fields that say how a run is executed, kept apart."""
        names = [
            field.name
            for field in dataclasses.fields(value)
            if field.metadata.get("execution")
        ]
        for name in names:
            where = _joined(path, name).lstrip(".")
            self.execution[where] = repr(getattr(value, name, None))
        return tuple(names)


def _made(text: str | None, parts: tuple[tuple[str, _Node], ...]) -> _Node:
    digest = hashlib.sha256((text or "").encode())
    for name, part in parts:
        digest.update(f"\0{name}\0".encode())
        digest.update(part.digest)
    return _Node(text, parts, digest.digest(), 1 + sum(p.size for _, p in parts))


def _plain(value: Any) -> str:
    if isinstance(value, bytes) and len(value) > _LONG:  # `repr` would take long
        return f"{len(value)} bytes ({hashlib.sha256(value).hexdigest()[:12]})"
    text = repr(value)
    if len(text) <= _LONG:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{text[:40]}... of {len(text)} characters ({digest})"


def _leaf(value: Any) -> str | None:
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
    if isinstance(value, list | tuple) and len(value) > _LARGE:
        if all(isinstance(item, PLAIN) for item in value):
            return f"{type(value).__name__} of {len(value)}: {_plain(value)}"
    return None


def _own_text(value: Any) -> str | None:
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


def _all_parts(value: Any) -> list[Part]:
    parts = parts_of(value)
    if isinstance(value, types.FunctionType):
        if _code.is_users(value.__code__):
            parts += [(_CODE, _Text(_code.digest_of(value.__code__)))]
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
