"""Functions that `jax.jit`, `eqx.filter_jit` or `functools.partial` wrap."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax


def _no_op() -> None:
    return None


# Wrappers of these types compute the same as the function inside. Any other decorator
# may change the result and is therefore never unwrapped.
_JITS: tuple[type, ...] = (type(jax.jit(_no_op)), type(eqx.filter_jit(_no_op)))


def is_jitted(function: Any) -> bool:
    """Return whether `function` was returned by `jax.jit` or `eqx.filter_jit`."""
    return isinstance(function, _JITS)


def unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function inside `jax.jit`, `eqx.filter_jit` and `functools.partial`.

    Other decorators stay in place, because they may change what a function computes.
    """
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif is_jitted(function):
            function = function.__wrapped__  # pyright: ignore[reportFunctionMemberAccess]
        else:
            return function


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function or task in backticks, for messages."""
    name = getattr(function, "__qualname__", None) or type(function).__name__
    return f"`{name}`"
