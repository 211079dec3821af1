"""The first population of quality diversity."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from ..._compile import compiled
from ..._keys import quick, split
from ..._trees import strong, with_fields
from ..._types import PRNGKeyArray, Tree
from .._callbacks import plain
from .._generation import Asked, generation
from .._host import Answer
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
    - `data`: the data of the run, or the host's answer.
    """
    trainer, state, key, data = trainer.placed((plain(trainer), state, key, data))
    return compiled(_first_population, {})(trainer, state, key, data)


def first_asked(trainer: Any, state: QDState[Any], key: PRNGKeyArray) -> Asked:
    """Return the first population, which `initialize` evaluates.

    **Arguments:**

    - `trainer`, `state`, `key`: as for `with_first_population`.
    """
    draw_key, eval_key, emitter_key = split(key, 3)
    population = _drawn(trainer, state, state.elites.flat[0], draw_key)
    return generation(state, population, None, trainer.eval_reps, eval_key, emitter_key)


def _first_population(
    trainer: Any, state: Any, key: PRNGKeyArray, data: Tree
) -> QDState[Any]:
    if isinstance(data, Answer):
        asked, results = data.asked, data.results
    else:
        asked = first_asked(trainer, state, key)
        results = trainer.evaluate(state, asked, data)
    start, emitter_key = state.elites.flat[0], asked.tell_key
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
        return jax.vmap(make)(split(key, trainer.popsize))
    noise = jr.normal(quick(key), (trainer.popsize, len(start)), start.dtype)
    return start + trainer.init_std.astype(start.dtype) * noise.at[0].set(0.0)
