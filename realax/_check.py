"""Run-time type checks that cost nothing until a function is first called."""

import functools
from collections.abc import Callable


def lazily[**A, R](function: Callable[A, R]) -> Callable[A, R]:
    """`function`, checked by beartype from its first call on.

    Making the checks of a whole library takes a quarter of a second; a script calls a
    tenth of it.
    """
    checked: Callable[A, R] | None = None

    @functools.wraps(function)
    def wrapper(*args: A.args, **kwargs: A.kwargs) -> R:
        nonlocal checked
        if checked is None:
            from beartype import beartype

            checked = beartype(function)
        return checked(*args, **kwargs)

    return wrapper
