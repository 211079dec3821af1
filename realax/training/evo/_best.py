"""The best individual of a run so far."""

from typing import Any

import jax
import jax.numpy as jnp

from ..._trees import where, with_fields
from ...tasks import Evaluation
from .._generation import Asked
from ._guard import Scores
from ._shaping import FitnessShaper
from ._state import ESState


def with_generation[P](
    state: ESState[P],
    asked: Asked,
    results: Evaluation,
    scores: Scores,
    shaper: FitnessShaper,
    groups: int,
) -> ESState[P]:
    """Return `state` with the best individual and all observations so far.

    **Arguments:**

    - `state`: the state from which the generation was asked.
    - `asked`, `results`, `scores`: the generation.
    - `shaper`: the direction.
    - `groups`: the number of populations that the individuals form, in their order.
    """
    better = jnp.min(scores.costs) < shaper.cost(state.best_fitness)

    def found() -> Any:
        best = jnp.argmin(scores.costs)
        group = best // (len(scores.costs) // groups)
        best_fitness, best_flat = scores.fitness[best], asked.population[best]
        return best_fitness, best_flat, group.astype(jnp.int32)

    best_fitness, best_flat, group = jax.lax.cond(
        better, found, lambda: (state.best_fitness, state.best_flat, state.group)
    )
    stats = state.obs_stats
    if stats is not None and results.moments is not None:
        stats = stats.absorb(results.moments)
    return with_fields(
        state,
        best_fitness=best_fitness,
        best_flat=best_flat,
        group=group,
        # The statistics used in the evaluation, not those updated by it.
        best_stats=where(better, state.obs_stats, state.best_stats),
        obs_stats=stats,
    )
