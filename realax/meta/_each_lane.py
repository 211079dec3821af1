"""The evaluation of many parameters at once."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .._types import PRNGKeyArray, Scalar, Tree
from ..tasks import AbstractTask
from ..training._evaluate import LaneValues


class MeanOfLanes(AbstractTask[Any]):
    """The mean value of stacked parameters, all evaluated with the same key.

    The aux is the value of each of them, as `LaneValues`.

    **Arguments:**

    - `task`: the task that evaluates each of them.
    """

    task: AbstractTask[Any]

    @property
    def maximize(self) -> bool:
        """The direction of the task."""
        return self.task.maximize

    @property
    def stochastic(self) -> bool:
        """True if the task is."""
        return self.task.stochastic

    @property
    def differentiable(self) -> bool:
        """True if the task is."""
        return self.task.differentiable

    @property
    def obstacle(self) -> str | None:
        """The reason why the task is not differentiable, or `None`."""
        return self.task.obstacle

    @property
    def display_name(self) -> str:
        """The task's name."""
        return self.task.display_name

    @property
    def compiler_options(self) -> dict[str, Any]:
        """Those of the task."""
        return self.task.compiler_options

    def __call__(
        self, params: Any, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """Evaluate the parameters of each lane once."""
        arrays = jax.tree.leaves(eqx.filter(params, eqx.is_array))
        keys = jnp.broadcast_to(key, (len(arrays[0]), 1))
        values, _ = self.task.evaluate(params, keys, data)
        return jnp.mean(values), LaneValues(values[:, 0])
