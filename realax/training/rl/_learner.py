"""What every reinforcement learner has in common."""

import abc
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..._frozen import Frozen
from ...policies import BasePolicy
from ...tasks import EnvTask
from .._base import AbstractTrainer
from .._gradient_guard import GradientGuard
from .._options import own_or_of_task
from .._state import AbstractState
from .._streak import PATIENCE


class AbstractLearnerState(AbstractState):
    """The state of a reinforcement learner."""

    @property
    @abc.abstractmethod
    def guards(self) -> tuple[GradientGuard, ...]:
        """The guards of the networks in training."""


class AbstractLearner[S: AbstractLearnerState, M](
    AbstractTrainer[S, M, BasePolicy[Any]]
):
    """A trainer of a policy by the rewards of an environment.

    Metrics have the names `episode_return`, `episode_length`, `episodes`, `failed`,
    `grad_norm` and `skipped` in all learners.
    """

    env: eqx.AbstractVar[EnvTask[Any]]
    num_envs: eqx.AbstractVar[int]
    num_steps: eqx.AbstractVar[int]
    compiler_options: eqx.AbstractVar[Frozen | None]

    @property
    def objective(self) -> tuple[str, Literal["min", "max"]]:
        """The mean return of the episodes that ended, to be maximised."""
        return "episode_return", "max"

    @property
    def evaluation_task(self) -> EnvTask[Any]:
        """The task on which an `Evaluator` plays the policy."""
        return self.env

    @property
    def xla_options(self) -> dict[str, Any]:
        """The trainer's own `compiler_options`, or those of the task."""
        return own_or_of_task(self.compiler_options, self.env)

    @property
    def total_timesteps(self) -> int:
        """The number of steps that a run plays, of all environments together."""
        return self.train_steps * self.num_envs * self.num_steps

    def warning(self, state: S) -> str | None:
        """Return a warning if a hundred steps of a network in a row were skipped."""
        skips = max(guard.skips.maximum() for guard in state.guards)
        if skips < PATIENCE:
            return None
        return (
            f"{skips} steps of learning in a row were skipped, because the loss or its "
            'gradient was not finite. Look at `data["metrics"]`: "value_loss", '
            '"grad_norm" and "failed". A smaller `learning_rate` or '
            "`normalize_obs=True` may help."
        )


def leaf(value: Any) -> Array:
    """Return a hyperparameter as an array of the default float type."""
    return jnp.asarray(value, jnp.result_type(float))
