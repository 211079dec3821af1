"""Tasks in a direction that is not their own."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Key

from .._types import PRNGKeyArray, Scalar, Tree
from ._base import AbstractTask
from ._observing import Evaluation, evaluated
from ._wrapper import AbstractWrapper


class Directed[P](AbstractWrapper[P]):
    """A task that its trainer was told to optimise in the other direction.

    - `task`: the task, whose values stay as they are.
    - `upwards`: whether larger values are better.
    """

    task: AbstractTask[P]
    upwards: bool = eqx.field(static=True)

    @property
    def maximize(self) -> bool:
        """The direction that the trainer was told."""
        return self.upwards

    @property
    def display_name(self) -> str:
        """The name of the task in messages."""
        return self.task.display_name

    def __call__(
        self, params: P, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """The result of the task."""
        return self.task.checked_call(params, key, data)

    def evaluate(
        self, population: P, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> tuple[Float[Array, "pop reps"], Tree]:
        """The values by the task's own way to evaluate many."""
        return self.task.evaluate(population, keys, data)

    def evaluate_and_observe(
        self, population: Any, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> Evaluation:
        """The values, and the observations' sums."""
        return evaluated(self.task, population, keys, data)


def directed(task: AbstractTask[Any], maximize: bool) -> AbstractTask[Any]:
    """Return a task whose `maximize` is the given one."""
    return task if task.maximize == maximize else Directed(task, maximize)
