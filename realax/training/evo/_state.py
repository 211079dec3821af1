"""State and metrics of evolution."""

from typing import Any, TypedDict

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._template import Template
from ..._types import PRNGKeyArray, Step, Tree
from ...policies import ObsStats
from .._state import AbstractState
from .._streak import Streak
from ._shaping import FitnessShaper


class ESMetrics(TypedDict):
    """Metrics of each generation, in the task's own numbers.

    - `fitness`: of each individual, its repetitions averaged; shape `(pop,)`.
    - `mean_fitness`: over the generation's usable individuals.
    - `best_fitness`: the best so far.
    - `failed`: the number of individuals whose fitness is not finite, or beyond 1e15.
    - `rejected`: whether the strategy's update was refused.
    - `eval_data`: the task's aux, shape `(pop, reps, ...)`; `None` if it has none.
    """

    fitness: Float[Array, " pop"]
    mean_fitness: Float[Array, ""]
    best_fitness: Float[Array, ""]
    failed: Int[Array, ""]
    rejected: Bool[Array, ""]
    eval_data: Tree


class ESState[P](AbstractState):
    """State of evolution.

    - `step`: the number of generations so far.
    - `es_state`: evosax's own state.
    - `best_fitness`: the best so far, in the task's own numbers and sign.
    - `best_flat`: the parameters of the individual that scored it, flat.
    - `group`: the index of its population, for algorithms that have several.
    - `refusals`: the number of updates of the algorithm that were refused in a row.
    - `shuffle_key`: the key for the order in which `Minibatch` goes through the data.
    - `obs_stats`: statistics of all observations, for an environment task with
        `normalize_obs`; else `None`.
    - `best_stats`: the statistics with which the best individual was evaluated.
    - `rest`: the arrays of `params_like` that are not evolved.
    - `template`: rebuilds the user's type from flat numbers.
    """

    step: Step
    es_state: Tree
    best_fitness: Float[Array, ""]
    best_flat: Float[Array, " dims"]
    group: Int[Array, ""]
    refusals: Streak
    shuffle_key: PRNGKeyArray
    obs_stats: ObsStats | None
    best_stats: ObsStats | None
    rest: tuple[Array, ...]
    template: Template[P] = eqx.field(static=True)

    @property
    def best_params(self) -> P:
        """The individual with `best_fitness`, of the type of `params_like`.

        With `normalize_obs` it is a `NormalizedPolicy` around one.
        """
        return self._bound(self.best_flat, self.best_stats)

    @property
    def mean(self) -> P:
        """The centre of the strategy's distribution, of the type of `params_like`.

        If the algorithm has several populations, it is the centre of the one with the
        best individual.

        **Raises:** `AttributeError` for a population-based algorithm, which has none.
        """
        if not hasattr(self.es_state, "mean"):
            raise AttributeError(
                "a population-based algorithm has no `mean`; its best individual is "
                "`state.best_params`."
            )
        mean = self.es_state.mean
        if mean.ndim > self.best_flat.ndim:
            # One mean for each population of a Stein variational strategy.
            group = self.group[..., None, None]
            mean = jnp.take_along_axis(mean, group, axis=-2)[..., 0, :]
        return self._bound(mean, self.obs_stats)

    def _bound(self, flat: Array, stats: ObsStats | None) -> Any:
        params = self.template.unflatten(flat, self.rest)
        return params if stats is None else stats.bind(params)


def initial_state[P](
    start: P,
    obs_stats: ObsStats | None,
    shaper: FitnessShaper,
    shuffle_key: PRNGKeyArray,
) -> ESState[P]:
    """Return the state before that of the algorithm, without any fitness.

    **Arguments:**

    - `start`: the tree that is evolved.
    - `obs_stats`: statistics of earlier observations.
    - `shaper`: the direction.
    - `shuffle_key`: the key for the order in which `Minibatch` goes through the data.
    """
    template = Template(start)
    flat, rest = template.flatten(start)
    zero = jnp.zeros((), jnp.int32)
    return ESState(
        step=zero,
        es_state=None,
        best_fitness=shaper.cost(jnp.asarray(jnp.inf, flat.dtype)),
        best_flat=flat,
        group=zero,
        refusals=Streak.none(),
        shuffle_key=shuffle_key,
        obs_stats=obs_stats,
        best_stats=obs_stats,
        rest=rest,
        template=template,
    )
