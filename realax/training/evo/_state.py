"""What evolution carries from generation to generation, and what it reports."""

from typing import Any, TypedDict

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._template import Template
from ..._types import PRNGKeyArray, Step, Tree
from ...policies import ObsStats
from .._state import AbstractState


class ESMetrics(TypedDict):
    """What each generation of an evolution strategy reports, in the task's own numbers.

    - `fitness`: of each individual, its repetitions averaged; shape `(pop,)`.
    - `mean_fitness`: over the generation's usable individuals.
    - `best_fitness`: the best so far.
    - `failed`: how many individuals had a fitness that is not finite or absurd.
    - `rejected`: whether the strategy's update was refused.
    - `eval_data`: the task's aux, shape `(pop, reps, ...)`; `None` where it has none.
    """

    fitness: Float[Array, " pop"]
    mean_fitness: Float[Array, ""]
    best_fitness: Float[Array, ""]
    failed: Int[Array, ""]
    rejected: Bool[Array, ""]
    eval_data: Tree


class ESState[P](AbstractState):
    """What an evolution strategy carries from generation to generation.

    - `step`: the number of generations so far.
    - `es_state`: evosax's own state.
    - `best_fitness`: the best so far, in the task's own numbers and sign.
    - `best_flat`: the numbers of the individual that scored it, flat.
    - `group`: which of a strategy's several populations it belongs to.
    - `born`: whether the strategy has taken in one generation.
    - `refused`, `longest_refused`: how many of its updates were refused in a row, now
        and at most.
    - `shuffle_key`: decides the order in which `Minibatch` goes through the data.
    - `obs_stats`: statistics of all observations, of an environment task with
        `normalize_obs`; else `None`.
    - `best_stats`: those with which the best individual played.
    - `rest`: the arrays of `params_like` that are not evolved.
    - `template`: how flat numbers become the user's type again.
    """

    step: Step
    es_state: Tree
    best_fitness: Float[Array, ""]
    best_flat: Float[Array, " dims"]
    group: Int[Array, ""]
    born: Bool[Array, ""]
    refused: Int[Array, ""]
    longest_refused: Int[Array, ""]
    shuffle_key: PRNGKeyArray
    obs_stats: ObsStats | None
    best_stats: ObsStats | None
    rest: tuple[Array, ...]
    template: Template[P] = eqx.field(static=True)

    @property
    def best_params(self) -> P:
        """The individual that scored `best_fitness`, of the type of `params_like`.

        Of a task with `normalize_obs`, a `NormalizedPolicy` of that.
        """
        return self._bound(self.best_flat, self.best_stats)

    @property
    def mean(self) -> P:
        """The centre of the strategy's distribution, of the type of `params_like`.

        Of a strategy with several populations, that of the one which found the best.

        **Raises:** `AttributeError` for a population-based algorithm, which has none.
        """
        if not hasattr(self.es_state, "mean"):
            raise AttributeError(
                "a population-based algorithm has no `mean`; its best individual is "
                "`state.best_params`."
            )
        mean = self.es_state.mean
        if mean.ndim > self.best_flat.ndim:
            # One mean for each population of a strategy of the Stein kind.
            group = self.group[..., None, None]
            mean = jnp.take_along_axis(mean, group, axis=-2)[..., 0, :]
        return self._bound(mean, self.obs_stats)

    def _bound(self, flat: Array, stats: ObsStats | None) -> Any:
        params = self.template.unflatten(flat, self.rest)
        return params if stats is None else stats.bind(params)
