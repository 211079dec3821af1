"""The first population of a population-based algorithm."""

from typing import Any

import jax.random as jr

from ..._compile import compiled
from ..._trees import with_fields
from ..._types import PRNGKeyArray, Tree
from .._callbacks import plain
from .._generation import generation
from ._best import with_generation
from ._guard import initial_costs, score
from ._shaping import FitnessShaper
from ._state import ESState
from ._strategy import Strategy


def with_first_population[P](
    trainer: Any,
    strategy: Strategy,
    shaper: FitnessShaper,
    state: ESState[P],
    key: PRNGKeyArray,
    data: Tree,
) -> ESState[P]:
    """Evaluate a first population, and return the state after it. `step` stays 0.

    It is compiled, as an evaluation operation by operation may take minutes.

    **Arguments:**

    - `trainer`: the `EvosaxTrainer`.
    - `strategy`, `shaper`: its algorithm and direction.
    - `state`: the state at the start, without one of the algorithm.
    - `key`: splits into the keys to draw, to evaluate and to tell.
    - `data`: the data of the run.
    """
    trainer, state, key, data = trainer.placed((plain(trainer), state, key, data))
    run = compiled(_first_population, {})
    return run(trainer, strategy, shaper, state, key, data)


def _first_population(
    trainer: Any,
    strategy: Strategy,
    shaper: FitnessShaper,
    state: ESState[Any],
    key: PRNGKeyArray,
    data: Tree,
) -> ESState[Any]:
    draw_key, eval_key, tell_key = jr.split(key, 3)
    params = trainer.es_params
    population = strategy.first_population(draw_key, state.best_flat, params)
    asked = generation(state, population, None, trainer.eval_reps, eval_key, tell_key)
    results = trainer.evaluate(state, asked, data)
    scores = score(asked.population, results.values, shaper)
    es_state = strategy.init_population(
        tell_key, asked.population, initial_costs(scores), params
    )
    state = with_generation(state, asked, results, scores, shaper, strategy.groups)
    return with_fields(state, es_state=es_state)
