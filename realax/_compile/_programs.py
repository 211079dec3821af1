"""Compiled programs, of which a bounded number is kept in memory."""

import collections
import dataclasses
import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer

from .._check import no_type_check
from .._errors import describe
from .._parts import closes_over_tracer
from ._errors import readable_errors
from ._options import Options, as_text


# How many programs are kept. One trainer has up to three: its first state, its whole
# runs, its observed ones.
PROGRAMS = 64


def compiled(
    function: Callable[..., Any], options: Mapping[str, Any], wait: bool = True
) -> Callable[..., Any]:
    """`eqx.filter_jit` that keeps a bounded number of programs.

    Arrays among the arguments are traced, all else is compiled in, and compared by type
    and value: equal arguments compile nothing. The 64 programs used last are kept, with
    what they close over. A task that is made anew for each call would otherwise be kept
    for ever, each of them.

    **Arguments:**

    - `function`: what to compile. It takes positional arguments.
    - `options`: XLA's. jax takes them for what is compiled as a whole only: none for a
        function that is called while another is traced.
    - `wait`: whether a call returns only when its results are there. If not, call it
        and use its results inside of `readable_errors`.

    **Returns:** The compiled function. It raises `TypeError` for arguments that are
    neither arrays nor hashable.
    """
    return functools.partial(_call, function, as_text(options), wait)


# Stands for an array among what is compiled in.
_ARRAY = object()

_programs: collections.OrderedDict[Any, Any] = collections.OrderedDict()
_lock = threading.Lock()


# Unchecked, here and below: this is what every step of a stream goes through.
@no_type_check
def _call(
    function: Callable[..., Any], options: Options, wait: bool, *arguments: Any
) -> Any:
    leaves, treedef = jax.tree.flatten(arguments)
    arrays, rest = _apart(leaves)
    key = function, options, treedef, tuple(map(_by_type, rest)), _types_in(treedef)
    try:
        program = _kept(key)
    except TypeError:
        _check_hashable(function, arguments)
        raise
    if program is None:
        program = _program(function, options, treedef, rest)
        # A traced array is dead when its trace is over: no later call must meet it.
        if not closes_over_tracer(jax.tree.unflatten(treedef, rest)):
            program = _keep(key, program)
    with readable_errors():
        sign, traced, static = program(arrays)
        if wait and not isinstance(sign, Tracer):
            sign.block_until_ready()
    found = iter(traced)
    rest, treedef = static.value
    leaves = [next(found) if leaf is _ARRAY else leaf for leaf in rest]
    return jax.tree.unflatten(treedef, leaves)


@no_type_check
def _apart(leaves: list[Any]) -> tuple[list[Any], tuple[Any, ...]]:
    arrays = [leaf for leaf in leaves if eqx.is_array(leaf)]
    rest = tuple(_ARRAY if eqx.is_array(leaf) else leaf for leaf in leaves)
    return arrays, rest


@no_type_check
def _by_type(leaf: Any) -> Any:
    # As text, because 0.0 equals -0.0, and NaN not even itself.
    if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
        found = list[Any]()
        _add_types(leaf, found)
        return type(leaf), leaf, tuple(found)
    return type(leaf), repr(leaf) if isinstance(leaf, float | complex) else leaf


@no_type_check
def _types_in(treedef: Any) -> tuple[Any, ...]:
    """What `==` does not see of the static fields: 1, 1.0 and True are equal."""
    node, found = treedef.node_data(), []
    if node is not None:
        _add_types(node[1], found)
        for child in treedef.children():
            found += _types_in(child)
    return tuple(found)


@no_type_check
def _add_types(value: Any, found: list[Any]) -> None:
    if isinstance(value, tuple | list):
        for item in value:
            _add_types(item, found)
    elif isinstance(value, bool | int | float | complex):
        found.append(_by_type(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type | eqx.Module):
        for field in dataclasses.fields(value):
            _add_types(getattr(value, field.name, None), found)


@no_type_check
def _kept(key: Any) -> Any:
    with _lock:
        if (program := _programs.get(key)) is not None:
            _programs.move_to_end(key)
        return program


def _keep(key: Any, program: Any) -> Any:
    with _lock:
        program = _programs.setdefault(key, program)  # another thread may be sooner
        _programs.move_to_end(key)
        while len(_programs) > PROGRAMS:
            _programs.popitem(last=False)
        return program


@final
@jax.tree_util.register_static
class _Static:
    """What of a result is not traced. Compared by identity: it may have no hash."""

    def __init__(self, value: Any):
        self.value = value


def _program(
    function: Callable[..., Any], options: Options, treedef: Any, rest: Any
) -> Any:
    """`jax.jit` of a function of the arrays alone; it frees all else when it goes."""

    def run(arrays: list[Any]) -> Any:
        found = iter(arrays)
        leaves = [next(found) if leaf is _ARRAY else leaf for leaf in rest]
        leaves, structure = jax.tree.flatten(
            function(*jax.tree.unflatten(treedef, leaves))
        )
        traced, others = _apart(leaves)
        # The first one is computed for sure, others may be arguments handed on: only
        # it tells that the run is over, and whether it failed.
        return jnp.array(0), traced, _Static((others, structure))

    run.__name__ = getattr(function, "__name__", type(function).__name__)
    run.__qualname__ = run.__name__
    kws: dict[str, Any] = {"compiler_options": dict(options)} if options else {}
    return jax.jit(run, **kws)


def _check_hashable(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    names = inspect.signature(function).parameters
    for name, argument in zip(names, arguments, strict=False):
        for path, leaf in jax.tree_util.tree_leaves_with_path(argument):
            if not eqx.is_array(leaf) and not _has_hash(leaf):
                raise TypeError(
                    f"`{name}{jax.tree_util.keystr(path)}` must be an array or "
                    f"hashable, but got {describe(leaf)}. What is compiled in is "
                    "looked up by value: give its class `__hash__` and `__eq__`, or "
                    "use a tuple or an array."
                )


def _has_hash(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
