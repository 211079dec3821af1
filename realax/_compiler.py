"""How whole runs are compiled: which programs are kept, and XLA's options, by name."""

# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import collections
import dataclasses
import functools
import inspect
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer

from ._check import no_type_check
from ._errors import describe
from ._parts import closes_over_tracer


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
    return functools.partial(_call, function, _as_text(options), wait)


def checked_options(options: Any, owner: str) -> dict[str, str]:
    """`options` as text, where XLA takes them.

    **Arguments:**

    - `options`: XLA's options, values by name.
    - `owner`: whose they are, for messages.

    **Raises:** `TypeError` for what is no dictionary of numbers and strings by name,
    `ValueError` for what this XLA does not take.
    """
    if not isinstance(options, Mapping) or not all(
        isinstance(name, str) and isinstance(value, str | int | float)
        for name, value in options.items()
    ):
        raise TypeError(
            f"`compiler_options` of {owner} must be a dictionary of names and strings, "
            f"numbers or booleans, but got {options!r}. Return, for example, "
            '`{"xla_cpu_prefer_vector_width": 512}`.'
        )
    if (complaint := refusal(options)) is not None:
        raise ValueError(
            f"`compiler_options` of {owner} must be options that XLA takes, but of "
            f"{dict(options)} it says: {complaint}. Leave that one out, or correct its "
            "name or value."
        )
    return dict(_as_text(options))


def refusal(options: Mapping[str, Any]) -> str | None:
    """What this XLA has against some options; `None` where it takes them."""
    return _refusal(_as_text(options))


type _Options = tuple[tuple[str, str], ...]


def _as_text(options: Mapping[str, Any]) -> _Options:
    # Of a cache's keys, True, 1 and 1.0 are the same. To XLA they are not.
    return tuple(sorted((name, str(value)) for name, value in options.items()))


@functools.cache
def _refusal(options: _Options) -> str | None:
    if not options:
        return None
    try:
        jax.jit(lambda: 0).lower().compile(dict(options))
    except jax.errors.JaxRuntimeError as error:
        return str(error)
    return None


# Stands for an array among what is compiled in.
_ARRAY = object()

_programs: collections.OrderedDict[Any, Any] = collections.OrderedDict()
_lock = threading.Lock()


# Unchecked, here and below: this is what every step of a stream goes through.
@no_type_check
def _call(
    function: Callable[..., Any], options: _Options, wait: bool, *arguments: Any
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
    function: Callable[..., Any], options: _Options, treedef: Any, rest: Any
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


class readable_errors:
    """A context in which errors of `eqx.error_if` are raised as such."""

    __slots__ = ("_quiet",)

    def __enter__(self) -> None:
        # What jax writes of a failed callback is long, and says less than the error.
        self._quiet = _Quiet()
        _LOG.addFilter(self._quiet)

    @no_type_check
    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        del kind, traceback
        _LOG.removeFilter(self._quiet)
        if isinstance(error, jax.errors.JaxRuntimeError | ValueError):
            _, marked, message = str(error).partition("_EquinoxRuntimeError: ")
            if marked:
                text = message.partition("\n\n\n---")[0]
                raise eqx.EquinoxRuntimeError(text) from None


_LOG = logging.getLogger("jax._src.callback")


@final
class _Quiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.getMessage() != "jax.pure_callback failed"


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
