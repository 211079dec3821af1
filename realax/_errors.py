"""Errors and warnings that several modules share, and their wording."""

import difflib
import pathlib
import warnings
from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np


# Stack frames outside the user's code: this library and the wrappers of its methods.
_INTERNAL_FRAMES = (
    str(pathlib.Path(__file__).parent),
    str(pathlib.Path(eqx.__file__).parent),
    str(pathlib.Path(jaxtyping.__file__).parent),
    "<@beartype",
)


# Objects with a longer `repr` are described by their type.
_MAX_REPR = 60


def warn_user(text: str) -> None:
    """Issue a `RuntimeWarning` that points at the line of the user's own code."""
    warnings.warn(text, RuntimeWarning, skip_file_prefixes=_INTERNAL_FRAMES)


def closest(name: str, known: Iterable[str]) -> str:
    """Return a sentence that names the entries of `known` closest to `name`."""
    known = sorted(known)
    if not known:
        return "It takes none."
    folded = {entry.casefold(): entry for entry in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.4)
    if near:
        return f"Closest: {', '.join(repr(folded[entry]) for entry in near)}."
    return f"Known: {', '.join(repr(entry) for entry in known)}."


def check_key(key: Any, argument: str = "key") -> None:
    """Check that a value is one typed key that is not of an `rbg` kind.

    Keys of the kinds `rbg` and `unsafe_rbg` draw other numbers under `jax.vmap`.

    **Raises:** `TypeError` for other values and for legacy `uint32` keys, `ValueError`
    for several keys and for keys of an `rbg` kind.
    """
    if not eqx.is_array(key):
        raise TypeError(
            f"`{argument}` must be a key from `jax.random.key(seed)`, but got "
            f"{describe(key)}. Call `jax.random.key(0)`, for example."
        )
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"`{argument}` must be a typed key from `jax.random.key(seed)`, but got a "
            f"legacy key of dtype {key.dtype} and shape {key.shape}. Replace "
            "`jax.random.PRNGKey(seed)` by `jax.random.key(seed)`."
        )
    if key.shape != ():
        raise ValueError(
            f"`{argument}` must be one key of shape (), but got shape {key.shape}. For "
            "several seeds, map over them: `jax.vmap(trainer.init_and_train)(keys)`."
        )
    if (kind := str(jax.random.key_impl(key))) in ("rbg", "unsafe_rbg"):
        raise ValueError(
            f"`{argument}` must be a key that draws the same numbers with and without "
            f"`jax.vmap`, but got one of kind {kind!r}. Make it with "
            '`jax.random.key(seed, impl="threefry2x32")`.'
        )


def check_data(data: Any, argument: str = "data") -> None:
    """Check that no array holds objects, text or dates, which jax cannot store.

    **Raises:** `TypeError` that names the path of the first such array.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        if isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "OSUMm":
            raise TypeError(
                f"`{argument}` must hold arrays of numbers, but got one of dtype "
                f"{leaf.dtype} at `{jax.tree_util.keystr(path) or '(root)'}`. Pad rows "
                "of different lengths; `numpy.asarray(rows, float)` names an entry "
                "that is not a number."
            )


def describe(value: Any) -> str:
    """Return a short description of a value, for the end of a sentence."""
    if eqx.is_array(value):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    kind, text = type(value), repr(value)
    if len(text) > _MAX_REPR or "\n" in text:
        return f"a {kind.__module__}.{kind.__qualname__}"
    return f"{text} of type {kind.__name__}"
