"""Values that are compiled into a program: their hashes, and when they are equal."""

import dataclasses
import inspect
import operator
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from .._check import no_type_check
from .._errors import describe


@no_type_check
def same(some: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    """Return whether two tuples hold the same objects."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


@no_type_check
def typed(leaf: Any) -> Any:
    """Return a key that equals that of a leaf of the same type and value only."""
    # Floats are compared as text, because 0.0 equals -0.0 and NaN differs from itself.
    if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
        found = list[Any]()
        _collect_types(leaf, found)
        return type(leaf), leaf, tuple(found)
    return type(leaf), repr(leaf) if isinstance(leaf, float | complex) else leaf


@no_type_check
def static_types(treedef: Any) -> tuple[Any, ...]:
    """Return the types in static fields: 1, 1.0 and True are equal but differ here."""
    node, found = treedef.node_data(), []
    if node is not None:
        _collect_types(node[1], found)
        for child in treedef.children():
            found += static_types(child)
    return tuple(found)


@no_type_check
def _collect_types(value: Any, found: list[Any]) -> None:
    if isinstance(value, tuple | list):
        for item in value:
            _collect_types(item, found)
    elif isinstance(value, bool | int | float | complex):
        found.append(typed(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type | eqx.Module):
        for field in dataclasses.fields(value):
            _collect_types(getattr(value, field.name, None), found)


def check_hashable(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Refuse leaves that are neither arrays nor hashable.

    **Raises:** `TypeError` that names the argument.
    """
    names = inspect.signature(function).parameters
    for name, argument in zip(names, arguments, strict=False):
        for path, leaf in jax.tree_util.tree_leaves_with_path(argument):
            if not eqx.is_array(leaf) and not _is_hashable(leaf):
                raise TypeError(
                    f"`{name}{jax.tree_util.keystr(path)}` must be an array or "
                    f"hashable, but got {describe(leaf)}. Programs are looked up by "
                    "the values compiled into them: define `__hash__` and `__eq__` "
                    "for its class, or use a tuple or an array."
                )


def have_hashes(treedef: Any, rest: tuple[Any, ...]) -> bool:
    """Return whether all leaves and static fields have a hash.

    The hash of a structure leaves out the static fields.
    """
    waiting = [treedef]
    while waiting:
        node = waiting.pop()
        if (data := node.node_data()) is not None:
            fields = tuple(data[1]) if isinstance(data[1], list) else data[1]
            if not _is_hashable(fields):
                return False
            waiting += node.children()
    return all(map(_is_hashable, rest))


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
