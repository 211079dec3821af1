"""Functions behind what compiles or completes them."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax


# What `jax.jit` and `eqx.filter_jit` return. They compute what they wrap. Another
# decorator may change it, and is never looked through.
def _nothing() -> None:
    return None


_JITS: tuple[type, ...] = (type(jax.jit(_nothing)), type(eqx.filter_jit(_nothing)))


def is_jitted(function: Any) -> bool:
    """Whether `function` is what `jax.jit` or `eqx.filter_jit` returned."""
    return isinstance(function, _JITS)


def unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function behind `jax.jit`, `eqx.filter_jit` and `functools.partial`.

    Other decorators are left alone: they may change what a function computes.
    """
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif is_jitted(function):
            function = function.__wrapped__  # pyright: ignore[reportFunctionMemberAccess]
        else:
            return function


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function or task for messages, in backticks."""
    name = getattr(function, "__qualname__", None) or type(function).__name__
    return f"`{name}`"
