"""Run-time type checks that cost nothing until a function is first called."""

import functools
from collections.abc import Callable


def no_type_check[F](function: F) -> F:
    """Return `function` unchanged and exempt it from run-time type checks.

    The import hook recognises this decorator by its name. Two kinds of functions need
    it: those defined inside others while a run works on the host, because the hook
    takes 0.1 ms to build the checks at each definition, and the few that each step on
    the host calls. Unlike `typing.no_type_check`, it keeps the types visible to static
    checkers.
    """
    return function


def lazily[**A, R](function: Callable[A, R]) -> Callable[A, R]:
    """Return `function` with beartype checks that are built at its first call.

    Building the checks of the whole library takes a quarter of a second, and a script
    calls a tenth of the functions. A function defined inside another stays unchecked:
    each definition is a new function, whose checks would be built again.
    """
    if "<locals>" in function.__qualname__:
        return function
    checked: Callable[A, R] | None = None

    @functools.wraps(function)
    def wrapper(*args: A.args, **kwargs: A.kwargs) -> R:
        nonlocal checked
        if checked is None:
            from beartype import beartype

            checked = beartype(function)
        return checked(*args, **kwargs)

    return wrapper
