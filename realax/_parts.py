"""The parts of any Python object: fields, items, and values in closures."""

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
from ._check import is_checked


type Part = tuple[str, Any]

# Values of these types have no parts.
PLAIN = (bool, int, float, complex, str, bytes, type(None))
CONTAINERS = (Mapping, list, tuple, set, frozenset)
_BUILT_IN = (dict, list, tuple, set, frozenset)


def strip_wrappers(value: Any) -> Any:
    """Return the function inside `jit` and run-time type checks.

    Both wrappers compute the same as the function inside. Any other value is returned
    unchanged.
    """
    while is_jitted(value) or _is_type_check(value):
        value = value.__wrapped__
    return value


def parts_of(value: Any) -> list[Part]:
    """Return the parts of an object with their names.

    The parts of a function are its defaults, its attributes and the values in its
    closure; those of a bound method are its function and its object. Plain values,
    numeric arrays, classes and modules have none.
    """
    value = strip_wrappers(value)
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
        return _function_parts(value)
    if isinstance(value, property):
        return [("fget", value.fget)]
    if isinstance(value, staticmethod | classmethod):
        return [("__func__", value.__func__)]
    if isinstance(value, CONTAINERS):
        own = [] if type(value) in _BUILT_IN else _fields(value)
        return [*_items(value), *own]
    if isinstance(value, np.ndarray):
        return [("items", value.tolist()), ("shape", value.shape)]
    if isinstance(value, PyTreeDef):
        return _treedef_parts(value)
    return _fields(value)


def is_unordered(value: Any) -> bool:
    """Return whether the order of a container's items can differ between processes."""
    if isinstance(value, Mapping):
        return not all(map(_has_stable_repr, value))
    return isinstance(value, set | frozenset)


def _fields(value: Any) -> list[Part]:
    """Return the dataclass fields, attributes and slots of an object.

    Cached properties are left out, because they follow from the other attributes.
    """
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        names = list[str]()
    slots, cached = _slots_and_cached(type(value))
    own = {x for x in _attributes(value) if x[:2] != "__" or x == "__wrapped__"}
    names += sorted((own | {*slots}) - cached - {*names})
    found = [(name, _field_value(value, name, slots)) for name in names]
    return [(name, item) for name, item in found if item is not _MISSING]


def _attributes(value: Any) -> dict[str, Any]:
    # `getattr` could run the user's code.
    try:
        return object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}


def _field_value(value: Any, name: str, slots: Mapping[str, Any]) -> Any:
    own = _attributes(value)
    if name in own:
        return own[name]
    if name in slots:
        try:
            return slots[name].__get__(value)
        except AttributeError:  # the slot has no value yet
            return _MISSING
    default = inspect.getattr_static(type(value), name, _MISSING)
    return _MISSING if hasattr(default, "__get__") else default


def _slots_and_cached(cls: type) -> tuple[dict[str, Any], set[str]]:
    """Return the slots of a class by name, and the names of its cached properties."""
    if cls in _members:
        return _members[cls]
    slots, cached = dict[str, Any](), set[str]()
    for one in cls.__mro__:
        own = vars(one)
        for name, item in own.items():
            if isinstance(item, functools.cached_property):
                cached.add(name)
            elif isinstance(item, types.MemberDescriptorType) and "__slots__" in own:
                slots.setdefault(name, item)
    _members[cls] = slots, cached
    return slots, cached


# Weak references allow classes defined inside functions to be freed.
_members = weakref.WeakKeyDictionary[type, tuple[dict[str, Any], set[str]]]()


def under_trace() -> bool:
    """Return whether a trace is in progress, also one without traced arrays so far."""
    return not trace_state_clean()


def closes_over_tracer(*values: Any) -> bool:
    """Return whether `values` contain a traced array in a leaf, closure or field."""
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
        seen[id(value)] = value  # a reference, so that no other object gets its id
        parts = [part for _, part in parts_of(value)]
        cls = value if isinstance(value, type) else type(value)
        if "<locals>" in cls.__qualname__:  # its methods may have closures
            parts += [x for x in vars(cls).values() if isinstance(x, _FUNCTION_TYPES)]
        waiting.extend(part for part in parts if type(part) not in PLAIN)
    return False


_FUNCTION_TYPES = (types.FunctionType, property, staticmethod, classmethod)


_MISSING = object()


def is_numeric(value: Any) -> bool:
    """Return whether `value` is an array of bytes to compare, and not of objects."""
    return eqx.is_array(value) and not (
        isinstance(value, np.ndarray) and value.dtype.hasobject
    )


def _items(value: Any) -> list[Part]:
    if not isinstance(value, Mapping):
        return [(f"[{i}]", item) for i, item in enumerate(value)]
    if is_unordered(value):
        return [(f"[{i}]", pair) for i, pair in enumerate(value.items())]
    return [(f"[{key!r}]", value[key]) for key in sorted(value, key=str)]


def _has_stable_repr(key: Any) -> bool:
    """Return whether the `repr` of a dictionary key is the same in each process."""
    if isinstance(key, tuple):
        return all(map(_has_stable_repr, key))
    return isinstance(key, (*PLAIN, enum.Enum))


def _function_parts(function: types.FunctionType) -> list[Part]:
    names = function.__code__.co_freevars
    cells = zip(names, function.__closure__ or (), strict=True)
    # The cell `__class__` holds a method's own class, for `super`.
    parts = [(name, _contents(cell)) for name, cell in cells if name != "__class__"]
    for i, item in enumerate(function.__defaults__ or ()):
        parts.append((f"default[{i}]", item))
    for name, item in (function.__kwdefaults__ or {}).items():
        parts.append((f"default[{name!r}]", item))
    held = vars(function).items()
    parts += [(f".{name}", item) for name, item in sorted(held) if name[:2] != "__"]
    return [(name, part) for name, part in parts if part is not _MISSING]


def _treedef_parts(structure: Any) -> list[Part]:
    node = structure.node_data()
    if node is None:  # a leaf
        return []
    children = enumerate(structure.children())
    return [("type", node[0]), ("data", node[1]), *((f"[{i}]", x) for i, x in children)]


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the cell has no value yet
        return _MISSING


def _is_type_check(value: Any) -> bool:
    if not (isinstance(value, types.FunctionType) and hasattr(value, "__wrapped__")):
        return False
    made_in = value.__code__.co_filename
    return (
        is_checked(value)
        or made_in.startswith("<@beartype")
        or made_in == _JAXTYPING_FILE
    )


# The file in which jaxtyping defines the functions that check others.
_JAXTYPING_FILE = jaxtyped.__code__.co_filename
