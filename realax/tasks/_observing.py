"""Tasks that sum up the observations which their episodes meet."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .._errors import describe
from .._types import Tree
from ..policies import Moments, ObsStats
from ._base import AbstractTask, check_arrays


class Evaluation(eqx.Module):
    """The result of evaluating a population.

    - `values`: of each individual and repetition.
    - `aux`: the task's auxiliary output, with the same two leading axes; or `None`.
    - `moments`: the sums over the observations that were met, with the same two leading
        axes; `None` for a task that does not sum them up.
    """

    values: Float[Array, "pop reps"]
    aux: Tree = None
    moments: Moments | None = None


class AbstractObservingTask[P](AbstractTask[P]):
    """A task that can sum up observations, for statistics that its trainer keeps.

    The trainer keeps `obs_stats` in its state, binds the population to them, and lets
    them absorb the moments of each evaluation.
    """

    @property
    @abc.abstractmethod
    def obs_stats(self) -> ObsStats | None:
        """The statistics before the first observation.

        `None` where observations are not to be normalised; then a trainer calls
        `evaluate`.
        """

    @abc.abstractmethod
    def evaluate_and_observe(
        self, population: Any, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> Evaluation:
        """The result of `evaluate`, and the sums over the observations that were met.

        **Arguments:**

        - `population`: parameters with a leading axis `pop` on every array, usually
            bound to statistics: `stats.bind_population(population, pop)`.
        - `keys`, `data`: as for `evaluate`.
        """


def obs_stats_of(task: AbstractTask[Any]) -> ObsStats | None:
    """The statistics with which training on a task begins; `None` without any."""
    return task.obs_stats if isinstance(task, AbstractObservingTask) else None


def evaluated(
    task: AbstractTask[Any], population: Any, keys: Key[Array, "pop reps"], data: Tree
) -> Evaluation:
    """The evaluation of a population by the task's own way, observed if it has one.

    **Raises:** `TypeError` for an `evaluate` that does not return `(values, aux)`.
    """
    if isinstance(task, AbstractObservingTask) and task.obs_stats is not None:
        return task.evaluate_and_observe(population, keys, data)
    result: Any = task.evaluate(population, keys, data)
    name = f"`{type(task).__name__}.evaluate`"
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"{name} must return a pair (values, aux), but got {describe(result)}. "
            "Return `values, None` where there is no aux."
        )
    values, aux = result
    if not eqx.is_array_like(values) or jnp.shape(values) != keys.shape:
        raise TypeError(
            f"the values of {name} must be of shape (pop, reps) = {keys.shape}, the "
            f"shape of `keys`, but got {describe(values)}."
        )
    check_arrays(aux, f"the aux of {name}")
    values = jnp.asarray(values)
    if jnp.issubdtype(values.dtype, jnp.complexfloating):
        raise TypeError(
            f"the values of {name} must be real, but got {values.dtype}. Take "
            "`jnp.real` or `jnp.abs` of them."
        )
    return Evaluation(values.astype(jnp.result_type(float)), aux)
