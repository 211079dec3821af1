"""XLA's options for what is compiled, by name."""

import functools
from collections.abc import Mapping
from typing import Any

import jax


type Options = tuple[tuple[str, str], ...]


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
            f"numbers or booleans, but got {options!r}. Return, for example, "
            '`{"xla_cpu_prefer_vector_width": 512}`.'
        )
    if (complaint := refusal(options)) is not None:
        raise ValueError(
            f"`compiler_options` of {owner} must be options that XLA takes, but of "
            f"{dict(options)} it says: {complaint}. Leave that one out, or correct its "
            "name or value."
        )
    return dict(as_text(options))


def refusal(options: Mapping[str, Any]) -> str | None:
    """What this XLA has against some options; `None` where it takes them."""
    return _refusal(as_text(options))


def as_text(options: Mapping[str, Any]) -> Options:
    # Of a cache's keys, True, 1 and 1.0 are the same. To XLA they are not.
    return tuple(sorted((name, str(value)) for name, value in options.items()))


@functools.cache
def _refusal(options: Options) -> str | None:
    if not options:
        return None
    try:
        jax.jit(lambda: 0).lower().compile(dict(options))
    except jax.errors.JaxRuntimeError as error:
        return str(error)
    return None
