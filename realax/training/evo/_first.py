"""The first population of a population-based algorithm."""

from typing import Any

from ..._compile import compiled
from ..._keys import split
from ..._trees import with_fields
from ..._types import PRNGKeyArray, Tree
from .._callbacks import plain
from .._generation import Asked, generation
from .._host import Answer
from ._best import with_generation
from ._guard import initial_costs, score
from ._state import ESState


def with_first_population[P](
    trainer: Any, state: ESState[P], key: PRNGKeyArray, data: Tree
) -> ESState[P]:
    """Evaluate a first population, and return the state after it. `step` stays 0.

    It is compiled, as an evaluation operation by operation may take minutes.

    **Arguments:**

    - `trainer`: the `EvosaxTrainer`.
    - `state`: the state at the start, without one of the algorithm.
    - `key`: splits into the keys to draw, to evaluate and to tell.
    - `data`: the data of the run, or the host's answer.
    """
    trainer, state, key, data = trainer.placed((plain(trainer), state, key, data))
    return compiled(_first_population, {})(trainer, state, key, data)


def first_asked(trainer: Any, state: ESState[Any], key: PRNGKeyArray) -> Asked:
    """Return the first population, which `initialize` evaluates.

    **Arguments:**

    - `trainer`, `state`, `key`: as for `with_first_population`.
    """
    draw_key, eval_key, tell_key = split(key, 3)
    population = trainer.algorithm.first_population(
        draw_key, state.best_flat, trainer.es_params
    )
    return generation(state, population, None, trainer.eval_reps, eval_key, tell_key)


def _first_population(
    trainer: Any, state: ESState[Any], key: PRNGKeyArray, data: Tree
) -> ESState[Any]:
    if isinstance(data, Answer):
        asked, results = data.asked, data.results
    else:
        asked = first_asked(trainer, state, key)
        results = trainer.evaluate(state, asked, data)
    strategy, shaper = trainer.algorithm, trainer.shaper
    scores = score(asked.population, results.values, shaper)
    es_state = strategy.init_population(
        asked.tell_key, asked.population, initial_costs(scores), trainer.es_params
    )
    state = with_generation(state, asked, results, scores, shaper, strategy.groups)
    return with_fields(state, es_state=es_state)
