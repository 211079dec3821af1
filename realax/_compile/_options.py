"""XLA's options for compiled programs, by name."""

from collections.abc import Mapping
from typing import Any

import jax

from .._check import no_type_check


type Options = tuple[tuple[str, str], ...]

# For a program that runs once on a CPU. It compiles in about half the time.
FAST_COMPILATION: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}

# For a program of small arrays on a CPU, whose loops take longer on several cores.
UNDIVIDED_LOOPS: dict[str, Any] = {
    "xla_disable_hlo_passes": "cpu-parallel-task-assigner",
}


def checked_options(options: Any, owner: str) -> dict[str, str]:
    """Return `options` as text, which XLA reads.

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
            f"numbers or booleans, but got {options!r}. For example: "
            '`{"xla_cpu_prefer_vector_width": 512}`.'
        )
    return dict(as_text(options))


def as_text(options: Mapping[str, Any]) -> Options:
    """Return `options` as a key for a cache, in the order of their names."""
    # In the key of a cache, True, 1 and 1.0 are the same. To XLA they are not.
    return tuple(sorted((name, str(value)) for name, value in options.items()))


@no_type_check
class readable_refusals:
    """A context in which options that XLA refuses are an error in words.

    **Raises:** `ValueError` for an unknown name or a wrong value.
    """

    __slots__ = ("_options",)

    def __init__(self, options: Options):
        self._options = options

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        del kind, traceback
        if not self._options or not isinstance(error, jax.errors.JaxRuntimeError):
            return
        text = str(error)
        if "compile option" in text or "While setting option" in text:
            raise ValueError(
                "`compiler_options`, or the `xla_options` and `initial_xla_options` of "
                "a trainer of your own, must be options that XLA takes, but of "
                f"{dict(self._options)} it says: {text}. Leave that one out, or "
                "correct its name or value."
            ) from error
