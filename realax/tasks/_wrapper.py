"""The base class of tasks around another task."""

from typing import Any

import equinox as eqx

from .._trees import with_fields
from .._types import PRNGKeyArray, Step, Tree
from ..policies import ObsStats
from ._base import AbstractTask
from ._observing import AbstractObservingTask, obs_stats_of


class AbstractWrapper[P](AbstractObservingTask[P]):
    """Wraps another task and forwards the properties that it does not override.

    A subclass defines `__call__` and `evaluate_and_observe`, and holds the other task
    in the field `task`.
    """

    task: eqx.AbstractVar[AbstractTask[P]]

    @property
    def maximize(self) -> bool:
        """The direction of the wrapped task."""
        return self.task.maximize

    @property
    def stochastic(self) -> bool:
        """True if the value of the wrapped task depends on the key."""
        return self.task.stochastic

    @property
    def differentiable(self) -> bool:
        """True if the wrapped task is differentiable."""
        return self.task.differentiable

    @property
    def obstacle(self) -> str | None:
        """The reason why the wrapped task is not differentiable, or `None`."""
        return self.task.obstacle

    @property
    def on_host(self) -> bool:
        """True if the wrapped task runs on the host."""
        return self.task.on_host

    @property
    def compiler_options(self) -> dict[str, Any]:
        """XLA's options for the wrapped task."""
        return self.task.compiler_options

    def draw(
        self, data: Tree, key: PRNGKeyArray, step: Step
    ) -> tuple[AbstractTask[P], Tree]:
        """Return this task around the task of a step, and its part of the data."""
        inner, data = self.task.draw(data, key, step)
        return with_fields(self, task=inner), data

    @property
    def obs_stats(self) -> ObsStats | None:
        """The statistics of the wrapped task before the first observation."""
        return obs_stats_of(self.task)
