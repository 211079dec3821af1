"""XLA's options for compiled programs, by name."""

from collections.abc import Mapping
from typing import Any


type Options = tuple[tuple[str, str], ...]


def checked_options(options: Any, owner: str) -> dict[str, str]:
    """`options` as text, which XLA reads.

    XLA itself refuses unknown names and wrong values when a run is compiled.

    **Arguments:**

    - `options`: XLA's options, values by name.
    - `owner`: the name of the task or trainer that they belong to, for messages.

    **Raises:** `TypeError` for anything but a dictionary of numbers and strings by
    name.
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
    return dict(as_text(options))


def as_text(options: Mapping[str, Any]) -> Options:
    """`options` as a value that keys a cache, in the order of their names."""
    # In the key of a cache, True, 1 and 1.0 are the same. To XLA they are not.
    return tuple(sorted((name, str(value)) for name, value in options.items()))
