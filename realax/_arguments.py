"""Checks of public arguments: first of all, in one line, by the name the user typed."""

import functools
import inspect
import math
import operator
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, SupportsIndex

import numpy as np
from jax.core import Tracer

from ._errors import check_key, closest, describe
from ._frozen import Frozen
from ._unpacked import with_named_keywords


type Check = Callable[[str, Any], Any]
# A number of things, as `whole` takes it: 8.0 is 8.
type Count = SupportsIndex | float


def arguments[**A, R](
    **checks: Check,
) -> Callable[[Callable[A, R]], Callable[A, R]]:
    """Decorate a public function whose arguments are checked before all else.

    The run-time type checker stands behind these checks: its messages are long, name
    types of the library, and are absent with `JAXTYPING_DISABLE=1`.

    **Arguments:**

    - `checks`: for an argument's name a function `(phrase, value) -> value`. It returns
        the value to pass on, or raises an error that begins with the phrase, such as
        "`steps` of `evolve`".

    **Raises:** `TypeError` for an unknown keyword, with the closest matches.
    """

    def decorate(function: Callable[A, R]) -> Callable[A, R]:
        signature = with_named_keywords(inspect.signature(function))
        title = function.__qualname__.removesuffix(".__init__")
        method = "self" in signature.parameters and function.__name__ != "__init__"
        free = any(
            parameter.kind is parameter.VAR_KEYWORD
            for parameter in signature.parameters.values()
        )
        if unknown := set(checks) - set(signature.parameters):
            raise TypeError(f"`{title}` has no arguments {sorted(unknown)} to check.")

        @functools.wraps(function)
        def checked(*args: A.args, **kwargs: A.kwargs) -> R:
            name = title
            if method and args:  # of the user's own class, not of the abstract one
                name = f"{type(args[0]).__name__}.{function.__name__}"
            for keyword in kwargs:
                if keyword not in signature.parameters and not free:
                    known = [one for one in signature.parameters if one != "self"]
                    raise TypeError(
                        f"`{name}` has no argument `{keyword}`. "
                        f"{closest(keyword, known)}"
                    )
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"`{name}`: {error}.") from None
            for argument, check in checks.items():
                if argument in bound.arguments:
                    phrase = f"`{argument}` of `{name}`"
                    value = bound.arguments[argument]
                    bound.arguments[argument] = check(phrase, value)
            return function(*bound.args, **bound.kwargs)

        checked.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
        return checked

    return decorate


def optional(check: Check) -> Check:
    """`check`, for a value that may also be `None`."""

    def checked(phrase: str, value: Any) -> Any:
        return None if value is None else check(phrase, value)

    return checked


def whole(least: int = 1) -> Check:
    """A number of things: an integer of any kind, or a float that is whole."""

    def check(phrase: str, value: Any) -> int:
        expected = f"{phrase} must be a whole number of at least {least}"
        number: Any = value
        if isinstance(value, float | np.floating) and float(value).is_integer():
            number = int(value)
        if isinstance(value, bool | np.bool_):
            raise TypeError(f"{expected}, but got {value}. Pass a number.")
        try:
            number = operator.index(number)
        except TypeError as error:
            raise TypeError(
                f"{expected}, but got {describe(value)}. Pass an `int`."
            ) from error
        if number < least:
            raise ValueError(f"{expected}, but got {number}.")
        return number

    return check


def number(least: float = -math.inf, above: float = -math.inf) -> Check:
    """One finite number, of Python, numpy or jax; traced ones pass as they are."""

    def check(phrase: str, value: Any) -> Any:
        expected = f"{phrase} must be a finite number"
        if above > -math.inf:
            expected += f" above {above:g}"
        elif least > -math.inf:
            expected += f" of at least {least:g}"
        if isinstance(value, Tracer):
            return value
        array = np.asarray(value)
        if array.dtype.kind not in "iuf" and array.dtype.name != "bfloat16":
            raise TypeError(f"{expected}, but got {describe(value)}.")
        if array.shape != ():
            raise ValueError(
                f"{expected}, but got an array of shape {array.shape}. For several, "
                "map over them with `jax.vmap`."
            )
        if not (np.isfinite(array) and array >= least and not array <= above):
            raise ValueError(f"{expected}, but got {value}.")
        return value

    return check


def flag(phrase: str, value: Any) -> bool:
    """`True` or `False`, of Python or numpy."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{phrase} must be True or False, but got {describe(value)}.")
    return bool(value)


def keywords(phrase: str, value: Any) -> Mapping[str, Any] | None:
    """A dictionary of values by name, or `None` for an empty one."""
    if value is None:
        return None
    if isinstance(value, Frozen):  # a field, from `dataclasses.replace`
        return value.thaw()
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise TypeError(
            f"{phrase} must be a dictionary of values by name, or None, but got "
            f"{describe(value)}. For example: `{{'name': 0.1}}`."
        )
    return value


def text(phrase: str, value: Any) -> str:
    """A piece of text, such as a name."""
    if not isinstance(value, str):
        raise TypeError(f"{phrase} must be a piece of text, but got {describe(value)}.")
    return value


def path(phrase: str, value: Any) -> pathlib.Path:
    """A place among files: text or a path."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(
            f"{phrase} must be a path or a piece of text, but got {describe(value)}. "
            "For example: `'runs/first'`."
        )
    return pathlib.Path(value)


def one_of(*choices: str) -> Check:
    """One of several words."""

    def check(phrase: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(
                f"{phrase} must be one of {', '.join(map(repr, choices))}, but got "
                f"{describe(value)}."
            )
        return value

    return check


def function(signature: str) -> Check:
    """Something to call, such as `(key) -> parameters`."""

    def check(phrase: str, value: Any) -> Any:
        if not callable(value):
            raise TypeError(
                f"{phrase} must be a function {signature}, but got {describe(value)}."
            )
        return value

    return check


def instance(kind: type, example: str) -> Check:
    """An object of a class, with an example of one."""

    def check(phrase: str, value: Any) -> Any:
        if not isinstance(value, kind):
            what = "the class itself" if value is kind else describe(value)
            raise TypeError(
                f"{phrase} must be a `{kind.__name__}`, but got {what}. For example: "
                f"`{example}`."
            )
        return value

    return check


def one_key(phrase: str, value: Any) -> Any:
    """One typed key."""
    del phrase  # everywhere `key`
    check_key(value)
    return value
