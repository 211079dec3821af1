"""CMA-ME with soft thresholds."""

from typing import SupportsIndex, cast, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from ..._arguments import arguments, number, optional, whole
from ..._types import PRNGKeyArray
from ._cma import Distributions, updates_between_factors
from ._cma_emitter import check_shares, ranks
from ._elites import Elites, Told
from ._emitter import AbstractEmitter
from ._slopes import SlopesAt


class CMAMAEState(eqx.Module):
    """The state of a `CMAMAEEmitter`.

    - `distributions`: one for each of its evolution strategies.
    - `thresholds`: the quality above which an individual of a cell counts.
    - `updates`: the number of updates so far.
    """

    distributions: Distributions
    thresholds: Float[Array, " cells"]
    updates: Int[Array, ""]


@final
class CMAMAEEmitter(AbstractEmitter):
    """Adapts normal distributions as `CMAEmitter`, but forgets good elites slowly.

    Each cell has a threshold that rises towards the quality of what is found there, by
    a fraction `rate` of the difference. Individuals are ranked by how far they are
    above it, and the better half is learned from. With a rate of 1 a place is left once
    an elite is found there, as by CMA-ME; with 0 it is never left, as by CMA-ES. The
    archive itself keeps the best, as always.

    A strategy begins anew at a random elite only where its distribution has become a
    point, or has no bounds.

    **Arguments:**

    - `rate`: by how much a threshold rises, from 0 to 1.
    - `lowest`: the threshold of a cell at the start, in units of quality: that of
        fitness, or of its negative for a task that is minimised. By default it is the
        worst quality of the first population.
    - `emitters`, `sigma`: as for `CMAEmitter`.

    **Raises:** `ValueError` or `TypeError` that names the argument.

    Source: M. C. Fontaine, S. Nikolaidis, Covariance Matrix Adaptation MAP-Annealing,
    arXiv:2205.10752.
    """

    emitters: int = eqx.field(static=True)
    rate: Float[Array, ""]
    lowest: Float[Array, ""] | None
    sigma: Float[Array, ""]

    @arguments(
        rate=number(0.0, most=1.0),
        lowest=optional(number()),
        emitters=whole(),
        sigma=number(above=0.0),
    )
    def __init__(
        self,
        rate: ArrayLike = 0.01,
        lowest: ArrayLike | None = None,
        *,
        emitters: SupportsIndex = 5,
        sigma: ArrayLike = 0.5,
    ):
        self.emitters = cast(int, emitters)
        self.rate = jnp.asarray(rate, jnp.result_type(float))
        self.lowest = (
            None if lowest is None else jnp.asarray(lowest, jnp.result_type(float))
        )
        self.sigma = jnp.asarray(sigma, jnp.result_type(float))

    def check(self, popsize: int) -> None:
        """Refuse a population size that is no multiple of the number of emitters."""
        check_shares("CMAMAEEmitter", popsize, self.emitters)

    def init(self, key: PRNGKeyArray, told: Told, elites: Elites) -> CMAMAEState:
        """Return distributions around random elites."""
        mean = elites.flat[elites.sample(key, self.emitters)]
        worst = jnp.min(jnp.where(told.usable, told.quality, jnp.inf))
        worst = jnp.where(jnp.any(told.usable), worst, 0.0)
        lowest = worst if self.lowest is None else self.lowest.astype(worst.dtype)
        return CMAMAEState(
            distributions=Distributions.around(mean, self.sigma.astype(mean.dtype)),
            thresholds=jnp.full_like(elites.quality, lowest),
            updates=jnp.zeros((), jnp.int32),
        )

    def ask(
        self,
        key: PRNGKeyArray,
        state: CMAMAEState,
        elites: Elites,
        popsize: int,
        slopes: SlopesAt | None = None,
    ) -> tuple[Float[Array, "pop dims"], CMAMAEState]:
        """Return an equal number of samples of each distribution."""
        samples = state.distributions.draw(key, popsize // self.emitters)
        return samples.reshape(popsize, -1), state

    def tell(
        self, key: PRNGKeyArray, state: CMAMAEState, told: Told, elites: Elites
    ) -> CMAMAEState:
        """Return the distributions after the ranking of their samples."""
        thresholds = state.thresholds
        gain = told.quality - thresholds[told.cell]
        above = told.usable & (gain > 0)
        quality = jnp.where(above, told.quality, 0.0)
        number = jnp.zeros_like(thresholds).at[told.cell].add(above)
        total = jnp.zeros_like(thresholds).at[told.cell].add(quality)
        # As if the individuals of a cell had come one after the other, each of them
        # with their mean quality.
        kept = (1 - self.rate.astype(thresholds.dtype)) ** number
        mean_quality = total / jnp.maximum(number, 1)
        after_all = kept * thresholds + (1 - kept) * mean_quality

        shape = (self.emitters, -1)
        samples = told.population.reshape(*shape, told.population.shape[-1])
        usable = told.usable.reshape(shape)
        size, dims = samples.shape[1:]
        rank = ranks(usable.astype(jnp.int32), gain.reshape(shape), usable)
        parents = jnp.full(self.emitters, max(size // 2, 1))
        after = state.distributions.updated(samples, rank, parents)
        updates = state.updates + 1
        after = after.decomposed(updates % updates_between_factors(size, dims) == 0)
        over = after.broken(self.sigma) | ~jnp.any(usable, axis=-1)
        mean = elites.flat[elites.sample(key, self.emitters)]
        after = after.restarted(over, mean, self.sigma.astype(mean.dtype))
        return CMAMAEState(after, after_all, updates)
