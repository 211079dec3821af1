"""What every reinforcement learner has in common."""

import abc
import os
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..._compile import FAST_COMPILATION, UNDIVIDED_LOOPS
from ..._frozen import Frozen
from ..._types import Tree
from ...policies import BasePolicy, Moments, NormalizedPolicy, ObsStats, no_obs
from ...tasks import EnvTask, Experience
from .._base import AbstractTrainer
from .._gradient_guard import GradientGuard
from .._options import own_or_of_task
from .._state import AbstractState
from .._streak import PATIENCE


# A batch of fewer numbers is computed faster by one core than by several, in layers as
# wide as is usual for observations of so many numbers.
_FEW_NUMBERS = 2**14
_LEAST_WIDTH = 32


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
    normalize_obs: eqx.AbstractVar[bool]
    compiler_options: eqx.AbstractVar[Frozen | None]

    @property
    @abc.abstractmethod
    def batch_steps(self) -> int:
        """The number of steps in a batch from which networks learn."""

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
    def lone_xla_options(self) -> dict[str, Any]:
        """On CPU, an option that keeps loops of small batches on one core.

        There is none beside `compiler_options` of the trainer, even empty ones, those
        of its task, or passes that `XLA_FLAGS` disables.
        """
        given = self.compiler_options is not None or self.xla_options
        given = given or "xla_disable_hlo_passes" in os.environ.get("XLA_FLAGS", "")
        rows = max(self.batch_steps, self.num_envs)
        numbers = rows * max(self.env.obs_layout.size, _LEAST_WIDTH)
        if given or numbers > _FEW_NUMBERS or jax.default_backend() != "cpu":
            return self.xla_options
        return {**UNDIVIDED_LOOPS}

    @property
    def initial_xla_options(self) -> dict[str, Any]:
        """On CPU no optimisations, unless the trainer has `compiler_options`.

        Networks and resets take longer to compile than to compute.
        """
        if self.compiler_options is not None or jax.default_backend() != "cpu":
            return {}
        return {**FAST_COMPILATION}

    @property
    def total_timesteps(self) -> int:
        """The number of steps that a run plays, of all environments together."""
        return self.train_steps * self.num_envs * self.num_steps

    @property
    @abc.abstractmethod
    def given(self) -> dict[str, Any]:
        """The networks by the names of their arguments, as given; the policy's first.

        If that is a `NormalizedPolicy`, its statistics of observations are taken up.
        """

    @property
    def first_stats(self) -> ObsStats | None:
        """The statistics of observations with which training begins, if any."""
        start = next(iter(self.given.values()))
        if isinstance(start, NormalizedPolicy):
            return start.stats
        return no_obs(self.env.obs_layout.size) if self.normalize_obs else None

    def warning(self, state: S) -> str | None:
        """Return a warning if a hundred steps of a network in a row were skipped."""
        skips = max(guard.skips.maximum for guard in state.guards)
        if skips < PATIENCE:
            return None
        return (
            f"{skips} steps of learning in a row were skipped, because the loss or its "
            'gradient was not finite. Look at `data["metrics"]`: "value_loss", '
            '"grad_norm" and "failed". A smaller `learning_rate` or '
            "`normalize_obs=True` may help."
        )


def normalizes(learner: AbstractLearner[Any, Any], asked: bool) -> bool:
    """Return whether a learner normalises observations.

    So it does if it is asked to, if its task does, or if its policy did before.

    **Arguments:**

    - `learner`: the trainer, with its networks as given.
    - `asked`: its argument `normalize_obs`.
    """
    start = next(iter(learner.given.values()))
    return asked or learner.env.normalize_obs or isinstance(start, NormalizedPolicy)


def leaf(value: Any) -> Array:
    """Return a hyperparameter as an array of the default float type."""
    return jnp.asarray(value, jnp.result_type(float))


def bound(policy: BasePolicy[Any], stats: ObsStats | None) -> BasePolicy[Any]:
    """Return a policy that normalises its observations, if there are statistics."""
    return policy if stats is None else stats.bind(policy)


def normalized(
    stats: ObsStats | None, rows: Experience
) -> tuple[Tree, Tree, ObsStats | None]:
    """Return the observations of experience as the networks got them.

    **Arguments:**

    - `stats`: the statistics when it was collected; `None` for plain observations.
    - `rows`: the experience, with the leading axes `(steps, envs)`.

    **Returns:** The observations before and after each step, and the statistics with
    this experience.
    """
    if stats is None:
        return rows.obs, rows.next_obs, None
    obs, next_obs = stats.normalize(rows.obs), stats.normalize(rows.next_obs)
    return obs, next_obs, stats.absorb(Moments.of(rows.obs))
