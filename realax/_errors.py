"""The wording of errors that several places raise."""

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
import numpy as np


# Frames that are not the user's: of this library, and of what wraps its methods.
_FRAMES = (
    str(pathlib.Path(__file__).parent),
    str(pathlib.Path(eqx.__file__).parent),
    str(pathlib.Path(jaxtyping.__file__).parent),
    "<@beartype",
)


# Longer than that, what an object says of itself is no part of a line.
_LONG = 60


def warn_user(text: str) -> None:
    """A `RuntimeWarning` that points at the user's own line."""
    warnings.warn(text, RuntimeWarning, skip_file_prefixes=_FRAMES)


def closest(name: str, known: Iterable[str]) -> str:
    """A sentence that names the entries of `known` nearest to `name`."""
    known = sorted(known)
    if not known:
        return "It takes none."
    folded = {entry.casefold(): entry for entry in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.4)
    if near:
        return f"Closest: {', '.join(repr(folded[entry]) for entry in near)}."
    return f"Known: {', '.join(repr(entry) for entry in known)}."


def check_key(key: Any, argument: str = "key") -> None:
    """Refuse what is no key, legacy `uint32` keys, batches, and keys of `rbg`.

    **Raises:** `TypeError` for what is no typed key, `ValueError` for more than one
    key, or one whose draws under `vmap` are others than alone.
    """
    if not eqx.is_array(key):
        raise TypeError(
            f"`{argument}` must be a key from `jax.random.key(seed)`, but got "
            f"{describe(key)}. Call `jax.random.key(0)`, for example."
        )
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"`{argument}` must be a typed key from `jax.random.key(seed)`, but got a "
            f"legacy key, of dtype {key.dtype} and shape {key.shape}. Replace "
            "`jax.random.PRNGKey(seed)` by `jax.random.key(seed)`."
        )
    if key.shape != ():
        raise ValueError(
            f"`{argument}` must be one key of shape (), but got {key.shape}. For "
            "several seeds, map over them: `jax.vmap(trainer.init_and_train)(keys)`."
        )
    if (kind := str(jax.random.key_impl(key))) in ("rbg", "unsafe_rbg"):
        raise ValueError(
            f"`{argument}` must be a key with which `jax.vmap` draws the same numbers "
            f"as without, but got one of kind {kind!r}. Make it by "
            '`jax.random.key(seed, impl="threefry2x32")`.'
        )


def check_data(data: Any, argument: str = "data") -> None:
    """Refuse arrays that jax can not hold: of objects, of text, of dates.

    **Raises:** `TypeError` that names the array by its path.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        if isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "OSUMm":
            raise TypeError(
                f"`{argument}` must hold arrays of numbers, but got one of dtype "
                f"{leaf.dtype} at `{jax.tree_util.keystr(path) or '(root)'}`. Where "
                "rows differ in length, pad them; `numpy.asarray(rows, float)` says "
                "which entry is no number."
            )


def count(name: str, value: SupportsIndex, least: int = 1) -> int:
    """A number of things as an `int`. **Raises:** `ValueError` below `least`."""
    number = operator.index(value)
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}, but got {number}.")
    return number


def describe(value: Any) -> str:
    """What a value is, for the end of a sentence."""
    if eqx.is_array(value):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    kind, text = type(value), repr(value)
    if len(text) > _LONG or "\n" in text:
        return f"a {kind.__module__}.{kind.__qualname__}"
    return f"{text} of type {kind.__name__}"
