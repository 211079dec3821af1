"""The parts of any Python object: fields, items, and what functions close over."""

import dataclasses
import enum
import functools
import inspect
import types
import weakref
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import numpy as np
from jax._src.core import trace_state_clean
from jax.core import Tracer
from jax.tree_util import PyTreeDef
from jaxtyping import jaxtyped

from ._callables import is_jitted


type Part = tuple[str, Any]

# Plain values have no parts.
PLAIN = (bool, int, float, complex, str, bytes, type(None))
CONTAINERS = (Mapping, list, tuple, set, frozenset)
_BUILT_IN = (dict, list, tuple, set, frozenset)


def looked_through(value: Any) -> Any:
    """The function behind `jit` and run-time type checks, which computes the same."""
    while is_jitted(value) or _is_check(value):
        value = value.__wrapped__
    return value


def parts_of(value: Any) -> list[Part]:
    """The named parts of an object; none of plain values, arrays, classes and modules.

    Of a function, its defaults and what it closes over; of a bound method, its object.
    """
    value = looked_through(value)
    if isinstance(value, PLAIN) or is_numeric(value):
        return []
    if isinstance(value, type | types.ModuleType):
        return []
    if isinstance(value, functools.partial):
        return [
            ("func", value.func),
            ("args", value.args),
            ("keywords", value.keywords),
        ]
    if inspect.ismethod(value):
        return [("__func__", value.__func__), ("__self__", value.__self__)]
    if isinstance(value, types.FunctionType):
        return _of_function(value)
    if isinstance(value, property):
        return [("fget", value.fget)]
    if isinstance(value, staticmethod | classmethod):
        return [("__func__", value.__func__)]
    if isinstance(value, CONTAINERS):
        own = [] if type(value) in _BUILT_IN else fields_of(value)
        return [*_items(value), *own]
    if isinstance(value, np.ndarray):
        return [("items", value.tolist()), ("shape", value.shape)]
    if isinstance(value, PyTreeDef):
        return _of_structure(value)
    return fields_of(value)


def is_unordered(value: Any) -> bool:
    """Whether the items of a container come in another order in each process."""
    if isinstance(value, Mapping):
        return not all(map(_is_named, value))
    return isinstance(value, set | frozenset)


def fields_of(value: Any) -> list[Part]:
    """The fields of a dataclass, and the attributes and slots of any object."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        names = list[str]()
    slots, cached = _declared(type(value))
    held = {name for name in _held(value) if name[:2] != "__" or name == "__wrapped__"}
    names += sorted((held | {*slots}) - cached - {*names})
    found = [(name, _read(value, name, slots)) for name in names]
    return [(name, item) for name, item in found if item is not _MISSING]


def _held(value: Any) -> dict[str, Any]:
    # No `getattr`: that may run code of the user's.
    try:
        return object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}


def _read(value: Any, name: str, slots: Mapping[str, Any]) -> Any:
    held = _held(value)
    if name in held:
        return held[name]
    if name in slots:
        try:
            return slots[name].__get__(value)
        except AttributeError:  # not filled yet
            return _MISSING
    default = inspect.getattr_static(type(value), name, _MISSING)
    return _MISSING if hasattr(default, "__get__") else default


def _declared(cls: type) -> tuple[dict[str, Any], set[str]]:
    """The slots by name, and the properties that are kept once they were computed."""
    if cls in _known:
        return _known[cls]
    slots, cached = dict[str, Any](), set[str]()
    for one in cls.__mro__:
        own = vars(one)
        for name, item in own.items():
            if isinstance(item, functools.cached_property):
                cached.add(name)
            elif isinstance(item, types.MemberDescriptorType) and "__slots__" in own:
                slots.setdefault(name, item)
    _known[cls] = slots, cached
    return slots, cached


# Weakly, or classes made in functions would stay for ever.
_known = weakref.WeakKeyDictionary[type, tuple[dict[str, Any], set[str]]]()


def closes_over_tracer(*values: Any) -> bool:
    """Whether a traced array hides in `values`: in a leaf, a closure, a field."""
    if trace_state_clean():
        return False
    seen = dict[int, Any]()
    waiting = list[Any](values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tracer):
            return True
        if id(value) in seen:
            continue
        seen[id(value)] = value  # kept, or another object might get its id
        parts = [part for _, part in parts_of(value)]
        cls = value if isinstance(value, type) else type(value)
        if "<locals>" in cls.__qualname__:  # its methods close over things too
            parts += [x for x in vars(cls).values() if isinstance(x, _FUNCTIONS)]
        waiting.extend(part for part in parts if type(part) not in PLAIN)
    return False


_FUNCTIONS = (types.FunctionType, property, staticmethod, classmethod)


_MISSING = object()


def is_numeric(value: Any) -> bool:
    """Whether `value` is an array that has bytes to compare, and no objects."""
    return eqx.is_array(value) and not (
        isinstance(value, np.ndarray) and value.dtype.hasobject
    )


def _items(value: Any) -> list[Part]:
    if not isinstance(value, Mapping):
        return [(f"[{i}]", item) for i, item in enumerate(value)]
    if is_unordered(value):
        return [(f"[{i}]", pair) for i, pair in enumerate(value.items())]
    return [(f"[{key!r}]", value[key]) for key in sorted(value, key=str)]


def _is_named(key: Any) -> bool:
    """Whether `repr` says the same of a key in every process."""
    if isinstance(key, tuple):
        return all(map(_is_named, key))
    return isinstance(key, (*PLAIN, enum.Enum))


def _of_function(function: types.FunctionType) -> list[Part]:
    names = function.__code__.co_freevars
    cells = zip(names, function.__closure__ or (), strict=True)
    # `__class__` is how a method finds its own class.
    parts = [(name, _contents(cell)) for name, cell in cells if name != "__class__"]
    for i, item in enumerate(function.__defaults__ or ()):
        parts.append((f"default[{i}]", item))
    for name, item in (function.__kwdefaults__ or {}).items():
        parts.append((f"default[{name!r}]", item))
    held = vars(function).items()
    parts += [(f".{name}", item) for name, item in sorted(held) if name[:2] != "__"]
    return [(name, part) for name, part in parts if part is not _MISSING]


def _of_structure(structure: Any) -> list[Part]:
    node = structure.node_data()
    if node is None:  # a leaf
        return []
    children = enumerate(structure.children())
    return [("type", node[0]), ("data", node[1]), *((f"[{i}]", x) for i, x in children)]


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return _MISSING


def _is_check(value: Any) -> bool:
    if not (isinstance(value, types.FunctionType) and hasattr(value, "__wrapped__")):
        return False
    made_in = value.__code__.co_filename
    return made_in.startswith("<@beartype") or made_in == _JAXTYPED


# The file in which jaxtyping makes the functions that check others.
_JAXTYPED = jaxtyped.__code__.co_filename
