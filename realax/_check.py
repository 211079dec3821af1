"""Run-time type checks that cost nothing until a function is first called."""

import functools
from collections.abc import Callable


def no_type_check[F](function: F) -> F:
    """`function` as it is. The import hook knows this decorator by its name.

    For functions that are made inside others while a program runs on the host: the hook
    takes 0.1 ms to make the checks of one, each time anew. And for the few that every
    step on the host goes through. Unlike the one of `typing`, it hides no types from
    checkers.
    """
    return function


def lazily[**A, R](function: Callable[A, R]) -> Callable[A, R]:
    """`function`, checked by beartype from its first call on.

    Making the checks of a whole library takes a quarter of a second; a script calls a
    tenth of it. A function that is made inside another stays unchecked: it is another
    one each time, and its checks would be made each time.
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
