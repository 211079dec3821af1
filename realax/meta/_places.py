"""Places of numbers in a trainer, by the path of an attribute or by a function."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .._errors import closest, describe
from ..training._callbacks import plain


# `(trainer) -> array`, or the path to it, such as `"es_params.std_init"`.
type Place = str | Callable[[Any], Any]


class Path(eqx.Module):
    """The place of a number by the names that lead to it, compared by value.

    - `names`: attributes, or entries of dictionaries, one inside of the other.
    """

    names: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, trainer: Any) -> Any:
        """Return what is there."""
        return functools.reduce(_inside, self.names, trainer)


def place_of(phrase: str, trainer: Any, place: Place) -> tuple[str, Callable[..., Any]]:
    """Return the name of a place and a function that finds it, after checks.

    **Arguments:**

    - `phrase`: the argument's name in messages.
    - `trainer`: the trainer in which to look.
    - `place`: the path of an attribute, or a function `(trainer) -> array`.

    **Raises:** `ValueError` if there is no number that can differ
    between runs of one program.
    """
    kind = type(trainer).__name__
    if isinstance(place, str):
        name, find = place, Path(tuple(place.split(".")))
    else:
        name, find = getattr(place, "__name__", type(place).__name__), place
    try:
        found: Any = find(trainer)
        name = _name_of(found, trainer) if name == "<lambda>" else name
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"{phrase}: `{kind}` has no {name!r}. {closest(name, numbers_in(trainer))}"
        ) from error
    a_key = eqx.is_array(found) and jnp.issubdtype(found.dtype, jax.dtypes.prng_key)
    if isinstance(found, float) or (eqx.is_array(found) and not a_key):
        try:
            eqx.tree_at(find, plain(trainer), jnp.asarray(found))
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise ValueError(
                f"{phrase}: {name!r} of `{kind}` cannot differ between the runs of one "
                "program: it is static, or computed from other numbers. Name a number "
                f"that the trainer holds: {', '.join(map(repr, numbers_in(trainer)))}."
            ) from error
        return name, find
    inside = [one for one in numbers_in(found) if one]
    if inside and not isinstance(found, int | str):
        shown = ", ".join(f"'{name}.{one}'" for one in inside[:4])
        raise ValueError(
            f"{phrase}: {name!r} of `{kind}` holds several numbers: {shown}. Name one "
            "of them."
        )
    if found is None:
        raise ValueError(
            f"{phrase}: {name!r} of `{kind}` is None, beside which no number fits in "
            "one program. Give the trainer a number there first."
        )
    raise ValueError(
        f"{phrase}: {name!r} of `{kind}` is {describe(found)}, which is static: it "
        "decides shapes or which operations are compiled, and so cannot differ between "
        f"the runs of one program. Build a trainer for each value. Numbers that can: "
        f"{', '.join(map(repr, numbers_in(trainer)))}."
    )


def numbers_in(trainer: Any) -> list[str]:
    """Return the paths of the numbers of a trainer that can differ between runs."""
    return [
        name
        for name, leaf in _paths(trainer)
        if isinstance(leaf, float)
        or (eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.number))
    ]


def _name_of(found: Any, trainer: Any) -> str:
    """Return the path of a leaf of a trainer, or `"<lambda>"` if it is none."""
    paths = dict(_paths(trainer))
    return next((name for name, leaf in paths.items() if leaf is found), "<lambda>")


def _paths(trainer: Any) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(trainer):
        yield jax.tree_util.keystr(path, simple=True, separator="."), leaf


def put(trainer: Any, place: Callable[..., Any], value: Any) -> Any:
    """Return a trainer with another value at a place, of the type of the one there."""
    before = jnp.asarray(place(trainer))
    value = jnp.asarray(value, before.dtype)
    if value.shape != before.shape:
        raise ValueError(
            f"a number of `{type(trainer).__name__}` has the shape {before.shape}, but "
            f"got {describe(value)} in its place."
        )
    return eqx.tree_at(place, trainer, value)


def _inside(tree: Any, name: str) -> Any:
    if isinstance(tree, tuple | list) and name.isdigit():
        return tree[int(name)]
    return tree[name] if isinstance(tree, Mapping) else getattr(tree, name)
