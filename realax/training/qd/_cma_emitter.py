"""Emitters that adapt a normal distribution to what enters the archive."""

from typing import Literal, SupportsIndex, cast, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from ..._arguments import arguments, number, one_of, whole
from ..._keys import quick, split
from ..._types import PRNGKeyArray
from ._cma import Distributions, updates_between_factors
from ._elites import Elites, Told
from ._emitter import AbstractEmitter
from ._slopes import SlopesAt


class CMAState(eqx.Module):
    """The state of a `CMAEmitter`.

    - `distributions`: one for each of its evolution strategies.
    - `direction`: the direction in the space of descriptors, in units of the bounds'
        width, that each one follows.
    - `updates`: the number of updates so far.
    """

    distributions: Distributions
    direction: Float[Array, "emitters entries"]
    updates: Int[Array, ""]


@final
class CMAEmitter(AbstractEmitter):
    """Adapts normal distributions to the directions in which the archive improves.

    Several CMA-ES make an equal share of each generation. Each ranks its individuals,
    moves towards the best of them, and begins anew at a random elite when none of its
    individuals was better than the elite of its cell.

    - `"improvement"`: individuals in empty cells come first, by quality; then others,
        by how much better they are than the elite of their cell. Those that are better
        are learned from. This is CMA-ME.
    - `"objective"`: by quality. The better half is learned from.
    - `"direction"`: those that are better than the elite of their cell come first, and
        are learned from. They are ranked by how far their descriptors lie in a random
        direction.

    **Arguments:**

    - `rank`: one of these.
    - `emitters`: the number of evolution strategies, of which `popsize` is a multiple.
    - `sigma`: the deviation of each number with which they begin.

    **Raises:** `ValueError` or `TypeError` that names the argument.

    Source: M. C. Fontaine et al., Covariance Matrix Adaptation for the Rapid
    Illumination of Behavior Space, arXiv:1912.02400.
    """

    rank: str = eqx.field(static=True)
    emitters: int = eqx.field(static=True)
    sigma: Float[Array, ""]

    @arguments(
        rank=one_of("improvement", "objective", "direction"),
        emitters=whole(),
        sigma=number(above=0.0),
    )
    def __init__(
        self,
        rank: Literal["improvement", "objective", "direction"] = "improvement",
        *,
        emitters: SupportsIndex = 5,
        sigma: ArrayLike = 0.5,
    ):
        self.rank = rank
        self.emitters = cast(int, emitters)
        self.sigma = jnp.asarray(sigma, jnp.result_type(float))

    def check(self, popsize: int) -> None:
        """Refuse a population size that is no multiple of the number of emitters."""
        check_shares("CMAEmitter", popsize, self.emitters)

    def init(self, key: PRNGKeyArray, told: Told, elites: Elites) -> CMAState:
        """Return distributions around random elites."""
        mean_key, direction_key = split(key)
        mean = elites.flat[elites.sample(mean_key, self.emitters)]
        return CMAState(
            distributions=Distributions.around(mean, self.sigma.astype(mean.dtype)),
            direction=self._directions(direction_key, told.descriptor),
            updates=jnp.zeros((), jnp.int32),
        )

    def ask(
        self,
        key: PRNGKeyArray,
        state: CMAState,
        elites: Elites,
        popsize: int,
        slopes: SlopesAt | None = None,
    ) -> tuple[Float[Array, "pop dims"], CMAState]:
        """Return an equal number of samples of each distribution."""
        samples = state.distributions.draw(key, popsize // self.emitters)
        return samples.reshape(popsize, -1), state

    def tell(
        self, key: PRNGKeyArray, state: CMAState, told: Told, elites: Elites
    ) -> CMAState:
        """Return the distributions after the ranking of their samples."""
        mean_key, direction_key = split(key)
        told = jax.tree.map(lambda x: x.reshape(self.emitters, -1, *x.shape[1:]), told)
        better = jnp.sum(told.better, axis=-1, dtype=jnp.int32)
        size, dims = told.population.shape[1:]
        parents = jnp.full_like(better, max(size // 2, 1))
        if self.rank != "objective":
            parents = jnp.maximum(better, 1)
        after = state.distributions.updated(
            told.population, self._ranks(told, state.direction), parents
        )
        updates = state.updates + 1
        after = after.decomposed(updates % updates_between_factors(size, dims) == 0)
        over = (better == 0) | after.broken(self.sigma)
        mean = elites.flat[elites.sample(mean_key, self.emitters)]
        fresh = self._directions(direction_key, told.descriptor)
        return CMAState(
            after.restarted(over, mean, self.sigma.astype(mean.dtype)),
            jnp.where(over[:, None], fresh, state.direction),
            updates,
        )

    def _ranks(
        self, told: Told, direction: Float[Array, "emitters entries"]
    ) -> Int[Array, "emitters number"]:
        """Return the rank of each individual among those of its emitter."""
        if self.rank == "improvement":
            group, value = told.better + told.new.astype(jnp.int32), told.gain
        elif self.rank == "objective":
            group, value = told.usable.astype(jnp.int32), told.quality
        else:
            group = told.better.astype(jnp.int32)
            value = jnp.einsum("enk,ek->en", told.share, direction)
        return ranks(group, value, told.usable)

    def _directions(
        self, key: PRNGKeyArray, descriptor: Array
    ) -> Float[Array, "emitters entries"]:
        shape = (self.emitters, descriptor.shape[-1])
        return jr.normal(quick(key), shape, descriptor.dtype)


def check_shares(name: str, popsize: int, emitters: int, least: int = 2) -> None:
    """Refuse a population size that strategies cannot share equally.

    **Arguments:**

    - `name`: that of the emitter's class, for the message.
    - `popsize`: the number of individuals in a generation.
    - `emitters`: the number of strategies.
    - `least`: the smallest share.

    **Raises:** `ValueError` with the nearest ones that they can.
    """
    smallest = least * emitters
    if popsize % emitters or popsize < smallest:
        below = popsize - popsize % emitters
        near = sorted({max(below, smallest), max(below + emitters, smallest)})
        raise ValueError(
            f"`popsize` must be a multiple of the {emitters} `emitters` of `{name}`, "
            f"at least {least} for each, but got {popsize}. The nearest "
            f"{'is' if len(near) == 1 else 'are'} {' and '.join(map(str, near))}."
        )


def ranks(
    group: Int[Array, "emitters number"],
    value: Float[Array, "emitters number"],
    usable: Bool[Array, "emitters number"],
) -> Int[Array, "emitters number"]:
    """Return the rank of each individual among those of its strategy, from 0.

    **Arguments:**

    - `group`: those of a larger one come first.
    - `value`: of one group, those of a larger value come first.
    - `usable`: those that are not come last.
    """
    group = jnp.where(usable, group, -1)
    # Unusable ones have infinite values.
    value = jnp.where(usable, value, 0.0)
    number = jnp.broadcast_to(jnp.arange(group.shape[-1]), group.shape)
    _, _, order = jax.lax.sort((-group, -value, number), num_keys=2)
    return jnp.argsort(order, axis=-1)
