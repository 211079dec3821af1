"""A generation between `ask` and `tell`."""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .._keys import split
from .._template import Template
from .._types import PRNGKeyArray, Tree
from ..policies import ObsStats


@runtime_checkable
class Evolving(Protocol):
    """The part of a state from which flat individuals become those of the user's type.

    `ESState` and `QDState` describe it.
    """

    @property
    def template(self) -> Template[Any]:
        """Rebuilds the user's type from flat numbers."""
        ...

    @property
    def rest(self) -> tuple[Array, ...]:
        """The arrays that are not evolved."""
        ...

    @property
    def obs_stats(self) -> ObsStats | None:
        """The statistics of observations, if they are normalised."""
        ...


class Asked(eqx.Module):
    """A generation that is to be evaluated: the result of a trainer's `ask`.

    - `population`: one flat individual in each row.
    - `individuals`: the population as a tree like `params_like`, with a leading axis
        `pop` on every array. With `normalize_obs`, a `NormalizedPolicy` of it.
    - `keys`: one for each evaluation, `keys[i, r]` of individual `i` in repetition `r`.
    - `tell_key`: the algorithm's own key for `tell`.
    - `es_state`: the algorithm's state after it was asked.
    """

    population: Float[Array, "pop dims"]
    individuals: Any
    keys: Key[Array, "pop reps"]
    tell_key: PRNGKeyArray
    es_state: Tree


def generation(
    state: Evolving,
    population: Float[Array, "pop dims"],
    es_state: Tree,
    reps: int,
    eval_key: PRNGKeyArray,
    tell_key: PRNGKeyArray,
) -> Asked:
    """Build a generation of flat individuals.

    **Arguments:**

    - `state`: the trainer's state, with the type of the parameters.
    - `population`: one flat individual in each row.
    - `es_state`: the algorithm's state with it; `None` for a first population.
    - `reps`: the number of evaluations of each.
    - `eval_key`: the key that is split into those of all evaluations.
    - `tell_key`: the algorithm's own key for `tell`.
    """
    # Otherwise XLA would draw the same random numbers again at each use.
    population = jax.lax.optimization_barrier(population)
    size = len(population)
    rest = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (size, *leaf.shape)), state.rest
    )
    individuals = state.template.unflatten(population, rest)
    if state.obs_stats is not None:
        individuals = state.obs_stats.bind_population(individuals, size)
    keys = split(eval_key, (size, reps))
    return Asked(population, individuals, keys, tell_key, es_state)
