"""The wording of errors that several places raise."""

# pyright: reportUnknownArgumentType=false

import difflib
import operator
import pathlib
import warnings
from collections.abc import Iterable
from typing import Any, SupportsIndex

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping

from ._types import PRNGKeyArray


# Frames that are not the user's: of this library, and of what wraps its methods.
_FRAMES = (
    str(pathlib.Path(__file__).parent),
    str(pathlib.Path(eqx.__file__).parent),
    str(pathlib.Path(jaxtyping.__file__).parent),
    "<@beartype",
)


def warn_user(text: str) -> None:
    """A `RuntimeWarning` that points at the user's own line."""
    warnings.warn(text, RuntimeWarning, skip_file_prefixes=_FRAMES)


def closest(name: str, known: Iterable[str]) -> str:
    """A sentence that names the entries of `known` nearest to `name`."""
    known = sorted(known)
    folded = {entry.casefold(): entry for entry in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.4)
    if near:
        return f"Closest: {', '.join(repr(folded[entry]) for entry in near)}."
    return f"Known: {', '.join(repr(entry) for entry in known)}."


def check_key(key: PRNGKeyArray, argument: str = "key") -> None:
    """Refuse legacy `uint32` keys and batches of keys.

    **Raises:** `TypeError` for a legacy key, `ValueError` for more than one key.
    """
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"`{argument}` must be a typed key from `jax.random.key(seed)`, but a "
            f"legacy key of dtype {key.dtype} and shape {key.shape} came. Replace "
            "`jax.random.PRNGKey(seed)` by `jax.random.key(seed)`."
        )
    if key.shape != ():
        raise ValueError(
            f"`{argument}` must be one key of shape (), but {key.shape} came. For "
            "several seeds, map over them: `jax.vmap(trainer.init_and_train)(keys)`."
        )


def count(name: str, value: SupportsIndex, least: int = 1) -> int:
    """A number of things as an `int`. **Raises:** `ValueError` below `least`."""
    number = operator.index(value)
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}, but {number} came.")
    return number


def describe(value: Any) -> str:
    """What a value is, for the end of a sentence."""
    if eqx.is_array(value):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"{value!r} of type {type(value).__name__}"
