"""Numbers that a population explores, and their bounds."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from .._errors import describe
from .._keys import quick
from .._types import PRNGKeyArray
from ._places import place_of


class Explored(eqx.Module):
    """A number that a population explores.

    - `name`: its name.
    - `place`: a function that finds it in the trainer.
    - `low`, `high`: the bounds.
    """

    name: str = eqx.field(static=True)
    place: Callable[[Any], Any] = eqx.field(static=True)
    low: Float[Array, ""]
    high: Float[Array, ""]

    def drawn(self, key: PRNGKeyArray, n: int) -> Float[Array, " lanes"]:
        """Return first values: uniform, of the logarithm if the bounds are positive."""
        share = jr.uniform(quick(key), (n,), self.low.dtype)
        positive = self.low > 0
        low, high = (jnp.where(positive, x, 1.0) for x in (self.low, self.high))
        by_factor = low * (high / low) ** share
        value = jnp.where(
            positive, by_factor, self.low + share * (self.high - self.low)
        )
        return jnp.clip(value, self.low, self.high)


def bounds(phrase: str, value: Any) -> Any:
    """Check that bounds are given by places."""
    kept = isinstance(value, tuple) and all(isinstance(x, Explored) for x in value)
    if not (isinstance(value, Mapping) or kept) or not value:
        raise TypeError(
            f"{phrase} must map at least one place to its bounds, such as "
            f'`{{"learning_rate": (1e-4, 1e-2)}}`, but got {describe(value)}.'
        )
    for place in value if isinstance(value, Mapping) else ():
        if not isinstance(place, str) and not callable(place):
            raise TypeError(
                f'{phrase} must name numbers by paths such as "learning_rate", or by '
                f"functions `(trainer) -> array`, but got {describe(place)}."
            )
    return value


def explored(trainer: Any, explore: Any) -> tuple[Explored, ...]:
    """Return the numbers that a population explores, after checks.

    **Arguments:**

    - `trainer`: the trainer of a member.
    - `explore`: the bounds of numbers by their places, or what was made of them.

    **Raises:** `TypeError` or `ValueError` that names the place and the remedy.
    """
    if isinstance(explore, tuple):  # of `dataclasses.replace`
        return cast("tuple[Explored, ...]", explore)
    phrase = "`explore` of `PopulationBased`"
    found = list[Explored]()
    for place, ends in cast("Mapping[Any, Any]", explore).items():
        name, find = place_of(phrase, trainer, place)
        now = jnp.asarray(find(trainer))
        if now.shape != () or not jnp.issubdtype(now.dtype, jnp.floating):
            raise TypeError(
                f"{phrase} must name numbers of shape (), but {name!r} is "
                f"{describe(now)}."
            )
        pair = _pair(phrase, name, ends, now.dtype)
        if pair.shape != (2,) or not jnp.all(jnp.isfinite(pair)) or pair[0] >= pair[1]:
            raise ValueError(
                f"{phrase} must give bounds (low, high) with low < high, but at "
                f"{name!r} got {describe(ends)}."
            )
        if any(one.name == name for one in found):
            raise ValueError(
                f"{phrase} must name each number once, but got {name!r} twice."
            )
        found.append(Explored(name, find, pair[0], pair[1]))
    return tuple(found)


def _pair(phrase: str, name: str, ends: Any, dtype: Any) -> Array:
    try:
        return jnp.asarray(ends, dtype)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{phrase} must give two numbers (low, high), but at {name!r} got "
            f"{describe(ends)}."
        ) from error
