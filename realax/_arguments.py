"""Checks of public arguments, made first, with errors that name the argument."""

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
# A number of things that `whole` accepts: 8.0 counts as 8.
type Count = SupportsIndex | float


def arguments[**A, R](
    defaults: Mapping[str, Any] | None = None,
    /,
    **checks: Check,
) -> Callable[[Callable[A, R]], Callable[A, R]]:
    """Decorate a public function so that its arguments are checked before it runs.

    These checks run before the run-time type checker, whose messages are long, name
    types of the library, and are absent with `JAXTYPING_DISABLE=1`.

    **Arguments:**

    - `defaults`: the defaults of keywords that the function takes by `Unpack`.
    - `checks`: a function `(phrase, value) -> value` for each argument to check. The
        function returns the value to pass on, or raises an error that begins with
        `phrase`, such as "`steps` of `evolve`".

    **Returns:** A decorator. The decorated function raises `TypeError` for an unknown
    keyword and names the closest known ones.

    **Raises:** `TypeError` if `checks` names an argument that the function lacks.
    """

    def decorate(function: Callable[A, R]) -> Callable[A, R]:
        signature = with_named_keywords(inspect.signature(function), defaults or {})
        title = function.__qualname__.removesuffix(".__init__")
        method = "self" in signature.parameters and function.__name__ != "__init__"
        if unknown := set(checks) - set(signature.parameters):
            raise TypeError(f"`{title}` has no arguments {sorted(unknown)} to check.")

        @functools.wraps(function)
        def checked(*args: A.args, **kwargs: A.kwargs) -> R:
            name = title
            if method and args:  # name the user's class, not the abstract one
                name = f"{type(args[0]).__name__}.{function.__name__}"
            bound = _bound(signature, name, args, kwargs)
            for argument, check in checks.items():
                if argument in bound.arguments:
                    phrase = f"`{argument}` of `{name}`"
                    value = bound.arguments[argument]
                    bound.arguments[argument] = check(phrase, value)
            return function(*bound.args, **bound.kwargs)

        checked.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
        return checked

    return decorate


def _bound(
    signature: inspect.Signature,
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> inspect.BoundArguments:
    """Return the arguments of a call by their names.

    **Raises:** `TypeError` that names the function as `name`, and the keywords closest
    to an unknown one.
    """
    parameters = signature.parameters
    unknown = next((keyword for keyword in kwargs if keyword not in parameters), None)
    free = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    if unknown is not None and not free:
        known = [one for one in parameters if one != "self"]
        raise TypeError(
            f"`{name}` has no argument `{unknown}`. {closest(unknown, known)}"
        )
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"`{name}`: {error}.") from None


def optional(check: Check) -> Check:
    """Return a check that accepts `None` and applies `check` to other values."""

    def checked(phrase: str, value: Any) -> Any:
        return None if value is None else check(phrase, value)

    return checked


def whole(least: int = 1) -> Check:
    """Return a check for an integer, or a float such as 8.0, of at least `least`."""

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


def number(
    least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> Check:
    """Return a check for one finite number of Python, numpy or jax.

    Traced numbers pass unchecked.

    **Arguments:**

    - `least`: the smallest number that passes.
    - `above`: a bound that the number must exceed.
    - `most`: the largest number that passes.
    """

    def check(phrase: str, value: Any) -> Any:
        expected = f"{phrase} must be a finite number"
        if above > -math.inf:
            expected += f" above {above:g}"
        elif least > -math.inf:
            expected += f" of at least {least:g}"
        if most < math.inf:
            expected += f" and at most {most:g}"
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
        if not (np.isfinite(array) and least <= array <= most and array > above):
            raise ValueError(f"{expected}, but got {value}.")
        return value

    return check


def flag(phrase: str, value: Any) -> bool:
    """Check a value that must be `True` or `False`, of Python or numpy."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{phrase} must be True or False, but got {describe(value)}.")
    return bool(value)


def keywords(phrase: str, value: Any) -> Mapping[str, Any] | None:
    """Check a dictionary of values by name. `None` stands for an empty one."""
    if value is None:
        return None
    if isinstance(value, Frozen):  # `dataclasses.replace` passes the stored field
        return value.thaw()
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise TypeError(
            f"{phrase} must be a dictionary of values by name, or None, but got "
            f"{describe(value)}. For example: `{{'name': 0.1}}`."
        )
    return value


def text(phrase: str, value: Any) -> str:
    """Check a string, such as a name."""
    if not isinstance(value, str):
        raise TypeError(f"{phrase} must be a string, but got {describe(value)}.")
    return value


def path(phrase: str, value: Any) -> pathlib.Path:
    """Check a path, given as a string or a path object."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(
            f"{phrase} must be a path or a string, but got {describe(value)}. "
            "For example: `'runs/first'`."
        )
    return pathlib.Path(value)


def one_of(*choices: str) -> Check:
    """Return a check for one of several strings."""

    def check(phrase: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(
                f"{phrase} must be one of {', '.join(map(repr, choices))}, but got "
                f"{describe(value)}."
            )
        return value

    return check


def function(signature: str) -> Check:
    """Return a check for a callable with a signature such as `(key) -> params`."""

    def check(phrase: str, value: Any) -> Any:
        if not callable(value):
            raise TypeError(
                f"{phrase} must be a function {signature}, but got {describe(value)}."
            )
        return value

    return check


def instance(kind: type, example: str) -> Check:
    """Return a check for an instance of a class, with an example for the message."""

    def check(phrase: str, value: Any) -> Any:
        if not isinstance(value, kind):
            got = "the class itself" if value is kind else describe(value)
            raise TypeError(
                f"{phrase} must be a `{kind.__name__}`, but got {got}. For example: "
                f"`{example}`."
            )
        return value

    return check


def one_key(phrase: str, value: Any) -> Any:
    """Check one typed random key."""
    del phrase  # the argument is called `key` in every function
    check_key(value)
    return value
