"""What is measured of a generation beside its fitness."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._errors import closest, describe
from ..._types import Tree


def descriptors_of(
    aux: Tree,
    descriptor_fn: Callable[[Tree], Any] | None,
    entries: int,
    jobs: tuple[int, int],
    name: str,
) -> Float[Array, "pop entries"]:
    """Return the descriptors of a generation, repetitions averaged.

    **Arguments:**

    - `aux`: the aux of the evaluations, with the leading axes `jobs`.
    - `descriptor_fn`: returns the descriptor of one; by default its "descriptor".
    - `entries`: the number of entries that a descriptor has.
    - `jobs`: the numbers of individuals and of repetitions.
    - `name`: that of the task, for messages.

    **Raises:** `TypeError` or `ValueError`, while tracing, for a task without
    descriptors, and for those of another length.
    """
    if descriptor_fn is None:
        found = _named(aux)
        phrase = f'the aux["descriptor"] of {name}'
        if found is None:
            raise TypeError(
                f"the aux of {name} must hold a descriptor, of {entries} numbers, for "
                f"this archive, but got {_summary(aux)}. Return "
                '`value, {"descriptor": ...}`, give an environment task a '
                "`descriptor=rx.MeanOf(...)`, or pass a `descriptor_fn` that makes one "
                "of the aux."
            )
    else:
        found = _made_of(aux, descriptor_fn, name)
        phrase = "the result of `descriptor_fn`"
    if not eqx.is_array_like(found) or not jnp.issubdtype(
        jnp.result_type(found), jnp.floating
    ):
        whole = eqx.is_array_like(found) and jnp.issubdtype(
            jnp.result_type(found), jnp.integer
        )
        if not whole and not (eqx.is_array_like(found) and found.dtype == jnp.bool_):
            raise TypeError(
                f"{phrase} must be real numbers, but got {describe(found)}."
            )
    found = jnp.asarray(found, jnp.result_type(float))
    if found.shape == jobs and entries == 1:
        found = found[..., None]
    if found.shape != (*jobs, entries):
        raise ValueError(
            f"{phrase} must have the shape ({entries},), as the archive's bounds do, "
            f"but got {found.shape[2:]}. Build the archive for as many entries as the "
            "descriptor has."
        )
    return jnp.mean(found, axis=1)


def _made_of(aux: Tree, descriptor_fn: Callable[[Tree], Any], name: str) -> Any:
    """Return what a user's function makes of the aux of each evaluation."""
    try:
        return jax.vmap(jax.vmap(descriptor_fn))(aux)
    except KeyError as error:
        raise ValueError(
            f"`descriptor_fn` looks for {error} in the aux of {name}, but got "
            f"{_summary(aux)}."
        ) from error


def kept_of(aux: Tree, keep: tuple[str, ...], name: str) -> dict[str, Tree]:
    """Return what is kept of each individual, by name.

    Numbers with a fraction are averaged over the repetitions; of others, those of the
    first repetition are kept.

    **Raises:** `ValueError`, while tracing, for a name that the aux lacks.
    """

    def over_reps(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            return jnp.mean(leaf, axis=1)
        return leaf[:, 0]

    found = dict[str, Tree]()
    for one in keep:
        if not isinstance(aux, Mapping) or one not in aux:
            known = list(map(str, aux)) if isinstance(aux, Mapping) else []
            raise ValueError(
                f"`keep`: the aux of {name} has no {one!r}. {closest(one, known)}"
            )
        found[one] = jax.tree.map(over_reps, aux[one])
    return found


def _named(aux: Any) -> Any:
    return aux.get("descriptor") if isinstance(aux, Mapping) else None


def _summary(aux: Any) -> str:
    if isinstance(aux, Mapping):
        return f"the entries {sorted(map(str, aux))}"
    return describe(aux)
