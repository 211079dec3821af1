"""How whole runs are compiled: XLA's options, by name."""

# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax


def compiled(
    function: Callable[..., Any], options: Mapping[str, Any]
) -> Callable[..., Any]:
    """`filter_jit`, the same one for the same function and options.

    **Arguments:**

    - `function`: what to compile.
    - `options`: XLA's. jax takes them for what is compiled as a whole only: none for a
        function that is called while another is traced.
    """
    return _compiled(function, _as_text(options))


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
            f"numbers or booleans, but {options!r} came. Return, for example, "
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


def _as_text(options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    # Of a cache's keys, True, 1 and 1.0 are the same. To XLA they are not.
    return tuple(sorted((name, str(value)) for name, value in options.items()))


@functools.cache
def _compiled(
    function: Callable[..., Any], options: tuple[tuple[str, str], ...]
) -> Callable[..., Any]:
    kws: dict[str, Any] = {"compiler_options": dict(options)} if options else {}
    return eqx.filter_jit(function, **kws)


@functools.cache
def _refusal(options: tuple[tuple[str, str], ...]) -> str | None:
    if not options:
        return None
    try:
        jax.jit(lambda: 0).lower().compile(dict(options))
    except jax.errors.JaxRuntimeError as error:
        return str(error)
    return None
