"""Run-time type checks that cost nothing until a function is first called."""

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any


def no_type_check[F](function: F) -> F:
    """Return `function` unchanged and exempt it from run-time type checks.

    The import hook recognises this decorator by its name. The few functions that each
    step on the host calls need it. Unlike `typing.no_type_check`, it keeps the types
    visible to static checkers.
    """
    return function


def checked[**A, R](function: Callable[A, R]) -> Callable[A, R]:
    """Return `function` with checks that are built at its first call.

    They are jaxtyping's, by beartype. To build those of the whole library takes most of
    a second, and a script calls a tenth of the functions.
    """
    check: Callable[A, R] | None = None

    @functools.wraps(function)
    def wrapper(*args: A.args, **kwargs: A.kwargs) -> R:
        __tracebackhide__ = True
        nonlocal check
        if check is None:
            from beartype import beartype
            from jaxtyping import jaxtyped

            check = jaxtyped(function, typechecker=beartype)
        return check(*args, **kwargs)

    return wrapper


def is_checked(value: Any) -> bool:
    """Return whether a function was made by `checked`."""
    if not isinstance(value, types.FunctionType):
        return False
    return value.__code__.co_filename == checked.__code__.co_filename


def checked_class(cls: Any) -> Any:
    """Add checks to the `__init__` that a data class was given, and return the class.

    An `__init__` that a class or its parent defines is left alone: it has its checks
    already, below its decorators.
    """
    if hasattr(cls, "__dataclass_fields__"):
        if not is_checked(inspect.unwrap(cls.__init__, stop=is_checked)):
            cls.__init__ = checked(cls.__init__)
    return cls
