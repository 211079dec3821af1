"""State and metrics of PPO."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from ..._template import Template
from ..._types import Step, Tree
from ...policies import ActorCritic, ObsStats
from ...tasks import Stream
from .._gradient_guard import GradientGuard
from ._episodes import EpisodeMeans, EpisodeMetrics
from ._learner import AbstractLearnerState, bound
from ._reward_scale import RewardScale


class PPOMetrics(EpisodeMetrics):
    """Metrics of each update of PPO, beside those of every learner.

    - `policy_loss`, `value_loss`, `entropy`: means over the minibatches, as all below,
        of the parameters before each one's step.
    - `approx_kl`: an estimate of the divergence of the policy from the one that played,
        from J. Schulman, http://joschu.net/blog/kl-approx.html.
    - `clip_fraction`: the share of steps whose probability ratio was clipped.
    - `explained_variance`: the share of the variance of the returns that the critic
        explained before the update.
    """

    policy_loss: Float[Array, ""]
    value_loss: Float[Array, ""]
    entropy: Float[Array, ""]
    approx_kl: Float[Array, ""]
    clip_fraction: Float[Array, ""]
    explained_variance: Float[Array, ""]


class PPOState(AbstractLearnerState):
    """State of PPO.

    - `step`: the number of updates so far.
    - `trained`: the arrays of actor and critic that are trained.
    - `opt_state`: the optimiser's own state.
    - `guard`: counts of the minibatches that were skipped.
    - `streams`: the environments, the episodes in progress, and their keys.
    - `obs_stats`: the statistics of observations; `None` without `normalize_obs`.
    - `reward_scale`: those of returns; `None` without `scale_rewards`.
    - `episodes`: the means over the episodes that ended last.
    - `rest`: the arrays of actor and critic that are not trained.
    - `template`: rebuilds actor and critic from arrays.
    """

    step: Step
    trained: Tree
    opt_state: Tree
    guard: GradientGuard
    streams: Stream
    obs_stats: ObsStats | None
    reward_scale: RewardScale | None
    episodes: EpisodeMeans
    rest: tuple[Array, ...]
    template: Template[ActorCritic] = eqx.field(static=True)

    @property
    def model(self) -> ActorCritic:
        """The actor and critic after the last update."""
        return self.template.join(self.trained, self.rest)

    @property
    def guards(self) -> tuple[GradientGuard, ...]:
        """The guard of the minibatches."""
        return (self.guard,)

    @property
    def params(self) -> Any:
        """The policy after the last update, with its statistics of observations."""
        return bound(self.model.policy, self.obs_stats)
