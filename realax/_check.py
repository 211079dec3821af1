"""Run-time type checks that cost nothing until a function is first called."""

import functools
import inspect
import traceback
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

    They are beartype's, with the axes of jaxtyping. To build those of the whole library
    takes most of a second, and a script calls a tenth of the functions.
    """
    check: Callable[A, R] | None = None

    @functools.wraps(function)
    def wrapper(*args: A.args, **kwargs: A.kwargs) -> R:
        __tracebackhide__ = True
        nonlocal check
        if check is None:
            check = _explained(function) if _is_generator(function) else _fast(function)
        return check(*args, **kwargs)

    return wrapper


def _is_generator(function: Callable[..., Any]) -> bool:
    return inspect.isgeneratorfunction(function)


def _explained[**A, R](function: Callable[A, R]) -> Callable[A, R]:
    """Return `function` with jaxtyping's checks, whose errors show the arguments."""
    from beartype import beartype
    from jaxtyping import jaxtyped

    return jaxtyped(function, typechecker=beartype)


def _fast[**A, R](function: Callable[A, R]) -> Callable[A, R]:
    """Return `function` with the same checks in one pass.

    jaxtyping's checks of a function are two functions, which take twice as long to
    build and to call. They are built for the text of an error alone.
    """
    from beartype import beartype
    from beartype.roar import (
        BeartypeCallHintReturnViolation as ReturnViolation,
        BeartypeCallHintViolation as Violation,
    )
    from jaxtyping import TypeCheckError, config, jaxtyped

    annotations = function.__annotations__
    written = {**annotations}
    typed, axes = beartype(function), jaxtyped("context")
    annotations.update(written)  # beartype replaces some by what it makes of them

    def check(*args: A.args, **kwargs: A.kwargs) -> R:
        __tracebackhide__ = True
        if config.jaxtyping_disable:
            return function(*args, **kwargs)
        try:
            with axes:
                return typed(*args, **kwargs)
        except Violation as error:
            if _ran(function, error):  # it is of something that the function called
                raise
            if isinstance(error, ReturnViolation):
                name = f"{function.__module__}.{function.__qualname__}"
                text = "Type-check error whilst checking the return value of"
                raise TypeCheckError(f"{text} {name}.\n{error}") from error
        return _explained(function)(*args, **kwargs)

    return check


def _ran(function: Callable[..., Any], error: BaseException) -> bool:
    """Return whether an error was raised while a function ran."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is function.__code__ for frame, _ in frames)


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
