"""Emitters that branch out along the derivatives of the task."""

from typing import Any, ClassVar, SupportsIndex, cast, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, ArrayLike, Float, Int

from ..._arguments import arguments, number, whole
from ..._keys import quick, split
from ..._trees import with_fields
from ..._types import PRNGKeyArray, Tree
from ._cma import Distributions, updates_between_factors
from ._cma_emitter import check_shares, ranks
from ._elites import Elites, Told
from ._emitter import AbstractEmitter
from ._slopes import SlopesAt


@final
class OMGMEGAEmitter(AbstractEmitter):
    """Moves random elites along the derivatives of fitness and descriptor.

    An individual is `x + |c_0| f + c_1 m_1 + ...`, where `x` is a random elite, `f` the
    direction in which its fitness improves, and `m_1, ...` those in which the entries
    of its descriptor grow, all of length 1; the `c` are normal with deviation `sigma`.

    The task must be differentiable, by reverse mode. Each individual costs one more
    evaluation, and a backward pass for the fitness and for each entry of the
    descriptor, whose memory all individuals need at once.

    **Arguments:**

    - `sigma`: the deviation of the steps, in units of the parameters.

    **Raises:** `ValueError` or `TypeError` that names the argument.

    Source: M. C. Fontaine, S. Nikolaidis, Differentiable Quality Diversity,
    arXiv:2106.03894.
    """

    sigma: Float[Array, ""]
    differentiates: ClassVar[bool] = True

    @arguments(sigma=number(above=0.0))
    def __init__(self, sigma: ArrayLike = 0.5):
        self.sigma = jnp.asarray(sigma, jnp.result_type(float))

    def ask(
        self,
        key: PRNGKeyArray,
        state: Tree,
        elites: Elites,
        popsize: int,
        slopes: SlopesAt | None = None,
    ) -> tuple[Float[Array, "pop dims"], Tree]:
        """Return a generation of such individuals."""
        parent_key, noise_key = split(key)
        points = elites.flat[elites.sample(parent_key, popsize)]
        directions = _directions("OMGMEGAEmitter", slopes, points)
        shape = directions.shape[:2]
        steps = self.sigma * jr.normal(quick(noise_key), shape, points.dtype)
        steps = steps.at[:, 0].set(jnp.abs(steps[:, 0]))
        return points + jnp.einsum("pj,pjd->pd", steps, directions), state


class CMAMEGAState(eqx.Module):
    """The state of a `CMAMEGAEmitter`.

    - `point`: where each of its strategies is.
    - `distributions`: those of the steps along the derivatives there.
    - `directions`, `steps`: the derivatives and steps of the generation that was asked.
    - `updates`: the number of updates so far.
    """

    point: Float[Array, "emitters dims"]
    distributions: Distributions
    directions: Float[Array, "emitters directions dims"]
    steps: Float[Array, "emitters branches directions"]
    updates: Int[Array, ""]


@final
class CMAMEGAEmitter(AbstractEmitter):
    """Follows the derivatives of fitness and descriptor to where the archive improves.

    A strategy is at a point. Its individuals are that point, and branches from it:
    steps along the direction in which fitness improves, and those in which the entries
    of the descriptor grow, all of length 1. The steps are drawn from a distribution
    that CMA-ES adapts to the branches that improve the archive, as `CMAEmitter` ranks
    them; the point moves by the mean of it. It begins anew at a random elite when no
    branch was better than the elite of its cell.

    The task must be differentiable, by reverse mode. Each strategy needs the
    derivatives at one point a generation. The distribution has a few numbers only,
    however many parameters there are.

    **Arguments:**

    - `emitters`: the number of strategies, of which `popsize` is a multiple.
    - `sigma`: the deviation of the steps with which they begin, in units of the
        parameters.
    - `rate`: by which part of the mean step the point moves.

    **Raises:** `ValueError` or `TypeError` that names the argument.

    Source: M. C. Fontaine, S. Nikolaidis, Differentiable Quality Diversity,
    arXiv:2106.03894.
    """

    emitters: int = eqx.field(static=True)
    sigma: Float[Array, ""]
    rate: Float[Array, ""]
    differentiates: ClassVar[bool] = True

    @arguments(emitters=whole(), sigma=number(above=0.0), rate=number(above=0.0))
    def __init__(
        self,
        *,
        emitters: SupportsIndex = 1,
        sigma: ArrayLike = 0.5,
        rate: ArrayLike = 1.0,
    ):
        self.emitters = cast(int, emitters)
        self.sigma = jnp.asarray(sigma, jnp.result_type(float))
        self.rate = jnp.asarray(rate, jnp.result_type(float))

    def check(self, popsize: int) -> None:
        """Refuse a population size that is no multiple of the number of strategies."""
        check_shares("CMAMEGAEmitter", popsize, self.emitters, least=3)

    def init(self, key: PRNGKeyArray, told: Told, elites: Elites) -> CMAMEGAState:
        """Return strategies at random elites."""
        point = elites.flat[elites.sample(key, self.emitters)]
        size, dims = told.population.shape
        number = 1 + told.descriptor.shape[-1]
        branches = size // self.emitters - 1
        return CMAMEGAState(
            point=point,
            distributions=self._fresh(number, point.dtype),
            directions=jnp.zeros((self.emitters, number, dims), point.dtype),
            steps=jnp.zeros((self.emitters, branches, number), point.dtype),
            updates=jnp.zeros((), jnp.int32),
        )

    def ask(
        self,
        key: PRNGKeyArray,
        state: CMAMEGAState,
        elites: Elites,
        popsize: int,
        slopes: SlopesAt | None = None,
    ) -> tuple[Float[Array, "pop dims"], CMAMEGAState]:
        """Return the point of each strategy and its branches."""
        directions = _directions("CMAMEGAEmitter", slopes, state.point)
        steps = state.distributions.draw(key, popsize // self.emitters - 1)
        point = state.point[:, None]
        branches = point + jnp.einsum("enj,ejd->end", steps, directions)
        population = jnp.concatenate([point, branches], axis=1)
        state = CMAMEGAState(
            state.point, state.distributions, directions, steps, state.updates
        )
        return population.reshape(popsize, -1), state

    def tell(
        self, key: PRNGKeyArray, state: CMAMEGAState, told: Told, elites: Elites
    ) -> CMAMEGAState:
        """Return the strategies after the ranking of their branches."""
        told = jax.tree.map(lambda x: x.reshape(self.emitters, -1, *x.shape[1:]), told)
        # A branch in the cell of its point is to be better than the point as well.
        beside = (told.cell == told.cell[:, :1]) & told.usable[:, :1]
        before = jnp.where(beside, told.quality[:, :1], -jnp.inf)
        told = with_fields(told, before=jnp.maximum(told.before, before))
        told = jax.tree.map(lambda x: x[:, 1:], told)
        better = jnp.sum(told.better, axis=-1, dtype=jnp.int32)
        group = told.better + told.new.astype(jnp.int32)
        rank = ranks(group, told.gain, told.usable)
        parents = jnp.maximum(better, 1)
        after = state.distributions.updated(state.steps, rank, parents)
        size, number = state.steps.shape[1:]
        updates = state.updates + 1
        after = after.decomposed(updates % updates_between_factors(size, number) == 0)
        # The mean of the distribution is the weighted mean of the best steps.
        moved = jnp.einsum("ej,ejd->ed", after.mean, state.directions)
        point = state.point + self.rate.astype(moved.dtype) * moved
        over = (better == 0) | after.broken(self.sigma)
        fresh = elites.flat[elites.sample(key, self.emitters)]
        zero = jnp.zeros_like(after.mean)
        return CMAMEGAState(
            jnp.where(over[:, None], fresh, point),
            after.restarted(over, zero, self.sigma.astype(zero.dtype)),
            state.directions,
            state.steps,
            updates,
        )

    def _fresh(self, number: int, dtype: Any) -> Distributions:
        mean = jnp.zeros((self.emitters, number), dtype)
        return Distributions.around(mean, self.sigma.astype(dtype))


def _directions(
    name: str, slopes: SlopesAt | None, points: Float[Array, "points dims"]
) -> Float[Array, "points directions dims"]:
    if slopes is None:
        raise TypeError(
            f"`{name}.ask` needs `slopes`, the derivatives of the task, which "
            "`QDTrainer` passes to it."
        )
    return slopes(points).directions
