"""Several emitters, each of which makes a part of every generation."""

from collections.abc import Sequence
from typing import Any, SupportsIndex, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._arguments import arguments, optional, whole
from ..._errors import describe
from ..._keys import split
from ..._types import PRNGKeyArray, Tree
from ._elites import Elites, Told
from ._emitter import AbstractEmitter
from ._slopes import SlopesAt


def _emitters(phrase: str, value: Any) -> tuple[AbstractEmitter, ...]:
    given: Any = value
    if not isinstance(given, tuple | list) or not given:
        raise TypeError(
            f"{phrase} must be a tuple of emitters, but got {describe(value)}."
        )
    for one in given:
        if not isinstance(one, AbstractEmitter):
            raise TypeError(
                f"{phrase} must be emitters, such as `rx.IsoLineEmitter()`, but got "
                f"{describe(one)} among them."
            )
    return tuple(given)


def _sizes(phrase: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple | list) or not value:
        raise TypeError(
            f"{phrase} must be the number of individuals of each emitter, such as "
            f"`(100, 50)`, but got {describe(value)}."
        )
    return tuple(whole()(phrase, one) for one in value)


@final
class MultiEmitter(AbstractEmitter):
    """Lets several emitters each make a part of every generation.

    All of them see the whole archive, and each is told its own individuals.

    **Arguments:**

    - `emitters`: the emitters.
    - `sizes`: the number of individuals that each makes, which sum up to `popsize`; by
        default, equal parts of it.

    **Raises:** `ValueError` or `TypeError` that names the argument.
    """

    emitters: tuple[AbstractEmitter, ...]
    sizes: tuple[int, ...] | None = eqx.field(static=True)

    @arguments(emitters=_emitters, sizes=optional(_sizes))
    def __init__(
        self,
        emitters: Sequence[AbstractEmitter],
        sizes: Sequence[SupportsIndex] | None = None,
    ):
        self.emitters = tuple(emitters)
        self.sizes = None if sizes is None else tuple(map(int, sizes))
        if self.sizes is not None and len(self.sizes) != len(self.emitters):
            raise ValueError(
                "`sizes` of `MultiEmitter` must be one for each emitter, "
                f"{len(self.emitters)}, but got {self.sizes}."
            )

    @property
    def differentiates(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether one of the emitters asks for derivatives."""
        return any(one.differentiates for one in self.emitters)

    def check(self, popsize: int) -> None:
        """Refuse a population size that the emitters do not make together."""
        number = len(self.emitters)
        if self.sizes is None and popsize % number:
            raise ValueError(
                f"`popsize` must be a multiple of the {number} emitters, but got "
                f"{popsize}. Or give their `sizes`: `rx.MultiEmitter(emitters, sizes)`."
            )
        if self.sizes is not None and sum(self.sizes) != popsize:
            raise ValueError(
                f"`popsize` must be the sum of the `sizes` of `MultiEmitter`, "
                f"{sum(self.sizes)}, but got {popsize}."
            )
        for emitter, size in zip(self.emitters, self._parts(popsize), strict=True):
            emitter.check(size)

    def init(self, key: PRNGKeyArray, told: Told, elites: Elites) -> Tree:
        """Return the states of the emitters."""
        keys = split(key, len(self.emitters))
        rows = zip(self.emitters, keys, self._split(told), strict=True)
        return tuple(one.init(key, part, elites) for one, key, part in rows)

    def ask(
        self,
        key: PRNGKeyArray,
        state: Tree,
        elites: Elites,
        popsize: int,
        slopes: SlopesAt | None = None,
    ) -> tuple[Float[Array, "pop dims"], Tree]:
        """Return the individuals of all emitters, in their order."""
        keys = split(key, len(self.emitters))
        sizes = self._parts(popsize)
        rows = zip(self.emitters, keys, state, sizes, strict=True)
        asked = [
            one.asked(key, own, elites, size, slopes) for one, key, own, size in rows
        ]
        populations, states = zip(*asked, strict=True)
        return jnp.concatenate(populations), states

    def tell(self, key: PRNGKeyArray, state: Tree, told: Told, elites: Elites) -> Tree:
        """Return the states of the emitters, each told its own individuals."""
        keys = split(key, len(self.emitters))
        rows = zip(self.emitters, keys, state, self._split(told), strict=True)
        return tuple(one.tell(key, own, part, elites) for one, key, own, part in rows)

    def _parts(self, popsize: int) -> tuple[int, ...]:
        if self.sizes is not None:
            return self.sizes
        number = len(self.emitters)
        return (popsize // number,) * number

    def _split(self, told: Told) -> list[Told]:
        parts, start = list[Told](), 0
        for size in self._parts(len(told.quality)):
            rows = slice(start, start + size)
            parts.append(jax.tree.map(lambda x, rows=rows: x[rows], told))
            start += size
        return parts
