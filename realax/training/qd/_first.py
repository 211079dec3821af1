"""The first population of quality diversity."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from ..._compile import compiled
from ..._trees import strong, with_fields
from ..._types import PRNGKeyArray, Tree
from .._callbacks import plain
from .._generation import generation
from ._elites import no_elites
from ._measures import kept_of
from ._state import QDState


def with_first_population(
    trainer: Any, state: QDState[Any], key: PRNGKeyArray, data: Tree
) -> QDState[Any]:
    """Evaluate a first population, and return the state after it. `step` stays 0.

    It is compiled, as an evaluation operation by operation may take minutes.

    **Arguments:**

    - `trainer`: the `QDTrainer`.
    - `state`: the state at the start, whose archive is empty.
    - `key`: splits into the keys to draw, to evaluate and to begin the emitter.
    - `data`: the data of the run.
    """
    trainer, state, key, data = trainer.placed((plain(trainer), state, key, data))
    return compiled(_first_population, {})(trainer, state, key, data)


def _first_population(
    trainer: Any, state: Any, key: PRNGKeyArray, data: Tree
) -> QDState[Any]:
    draw_key, eval_key, emitter_key = jr.split(key, 3)
    start = state.elites.flat[0]
    population = _drawn(trainer, state, start, draw_key)
    asked = generation(
        state, population, None, trainer.eval_reps, eval_key, emitter_key
    )
    results = trainer.evaluate(state, asked, data)
    extras = kept_of(results.aux, trainer.keep, trainer.task.display_name)
    finite = jnp.where(jnp.isfinite(start), start, 0)
    state = with_fields(state, elites=no_elites(state.elites.archive, finite, extras))
    elites, told = trainer.insert(state, asked, results)
    emitter_state = trainer.emitter.init(emitter_key, told, elites)
    return with_fields(state, elites=elites, emitter_state=strong(emitter_state))


def _drawn(
    trainer: Any, state: Any, start: Float[Array, " dims"], key: PRNGKeyArray
) -> Float[Array, "pop dims"]:
    """Return the individuals of the first population, flat."""
    if trainer.initializer is not None:
        make = lambda key: state.template.flatten(trainer.initializer(key))[0]
        return jax.vmap(make)(jr.split(key, trainer.popsize))
    noise = jr.normal(key, (trainer.popsize, len(start)), start.dtype)
    return start + trainer.init_std.astype(start.dtype) * noise.at[0].set(0.0)
