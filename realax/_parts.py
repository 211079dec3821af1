"""The parts of any Python object: fields, items, and what functions close over."""

# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import dataclasses
import functools
import inspect
import types
from collections.abc import Mapping
from typing import Any

import equinox as eqx
from jax.core import Tracer
from jaxtyping import jaxtyped

from ._callables import is_jitted


type Part = tuple[str, Any]

# Plain values have no parts.
PLAIN = (bool, int, float, complex, str, bytes, type(None))


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
    if isinstance(value, PLAIN) or eqx.is_array(value):
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
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", item) for key, item in _sorted(value)]
    if isinstance(value, list | tuple):
        return [(f"[{i}]", item) for i, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return [(f"[{i}]", item) for i, item in enumerate(sorted(value, key=str))]
    return fields_of(value)


def fields_of(value: Any) -> list[Part]:
    """The fields of a dataclass; of other objects, their attributes and slots."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        slots = set[str]()
        cached = set[str]()
        for cls in type(value).__mro__:
            own = vars(cls)
            slots |= {own["__slots__"]} if _is_one(own) else {*own.get("__slots__", ())}
            cached |= {
                name
                for name, item in own.items()
                if isinstance(item, functools.cached_property)
            }
        held = {name for name in getattr(value, "__dict__", {}) if name[:2] != "__"}
        names = sorted((held | slots) - cached - {"__dict__", "__weakref__"})
    found = [(name, getattr(value, name, _MISSING)) for name in names]
    return [(name, item) for name, item in found if item is not _MISSING]


def closes_over_tracer(*values: Any) -> bool:
    """Whether a traced array hides in `values`: in a leaf, a closure, a field."""
    seen = dict[int, Any]()
    waiting = list[Any](values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tracer):
            return True
        if id(value) in seen:
            continue
        seen[id(value)] = value  # kept, or another object might get its id
        waiting.extend(part for _, part in parts_of(value))
    return False


_MISSING = object()


def _of_function(function: types.FunctionType) -> list[Part]:
    names = function.__code__.co_freevars
    cells = zip(names, function.__closure__ or (), strict=True)
    # `__class__` is how a method finds its own class.
    parts = [(name, _contents(cell)) for name, cell in cells if name != "__class__"]
    for i, item in enumerate(function.__defaults__ or ()):
        parts.append((f"default[{i}]", item))
    for name, item in (function.__kwdefaults__ or {}).items():
        parts.append((f"default[{name!r}]", item))
    return [(name, part) for name, part in parts if part is not _MISSING]


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


def _is_one(own: Mapping[str, Any]) -> bool:
    return isinstance(own.get("__slots__"), str)


def _sorted(mapping: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return sorted(mapping.items(), key=lambda pair: str(pair[0]))
