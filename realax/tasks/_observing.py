"""Tasks that collect statistics of observations."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Key

from .._check import no_type_check
from .._types import Tree
from ..policies import Moments, ObsStats
from ._base import AbstractTask, check_arrays, checked_pair, checked_value


class Evaluation(eqx.Module):
    """The result of evaluating a population.

    - `values`: the value of each individual and repetition.
    - `aux`: the task's auxiliary output, with the same two leading axes; or `None`.
    - `moments`: the sums over the observations, with the same two leading axes; `None`
        for a task that does not compute them.
    """

    values: Float[Array, "pop reps"]
    aux: Tree = None
    moments: Moments | None = None


class AbstractObservingTask[P](AbstractTask[P]):
    """A task that can sum up observations, for statistics that its trainer keeps.

    The trainer keeps `obs_stats` in its state, binds the population to them, and
    updates them with the moments of each evaluation.
    """

    @property
    @abc.abstractmethod
    def obs_stats(self) -> ObsStats | None:
        """The statistics before the first observation.

        `None` if observations are not normalised; trainers then call `evaluate`.
        """

    @abc.abstractmethod
    def evaluate_and_observe(
        self, population: Any, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> Evaluation:
        """Evaluate a population as `evaluate`, and sum up the observations.

        **Arguments:**

        - `population`: parameters with a leading axis `pop` on every array, usually
            bound to statistics: `stats.bind_population(population, pop)`.
        - `keys`, `data`: as for `evaluate`.
        """


def obs_stats_of(task: AbstractTask[Any]) -> ObsStats | None:
    """Return the statistics with which training on a task begins, or `None`."""
    return task.obs_stats if isinstance(task, AbstractObservingTask) else None


@no_type_check
def evaluated(
    task: AbstractTask[Any], population: Any, keys: Key[Array, "pop reps"], data: Tree
) -> Evaluation:
    """Evaluate a population, and sum up the observations if the task keeps statistics.

    **Raises:** `TypeError` if the task's `evaluate` does not return `(values, aux)`.
    """
    if isinstance(task, AbstractObservingTask) and (
        task.on_host or task.obs_stats is not None
    ):
        # By the class, because a module makes a module for each access of a method.
        return type(task).evaluate_and_observe(task, population, keys, data)
    name = f"`{type(task).__name__}.evaluate`"
    result = task.evaluate(population, keys, data)
    values, aux = checked_pair(result, name, "(values, aux)")
    values = checked_value(values, keys.shape, f"the values of {name}")
    check_arrays(aux, f"the aux of {name}")
    return Evaluation(values, aux)
