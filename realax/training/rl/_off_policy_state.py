"""State and metrics of the learners with a replay buffer."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Int

from ..._types import Step
from ...policies import BasePolicy, ObsStats
from ...tasks import Stream
from .._gradient_guard import GradientGuard
from ._episodes import EpisodeMeans
from ._learner import AbstractLearnerState
from ._replay import ReplayBuffer
from ._transitions import Transition


class AbstractNets(eqx.Module):
    """The networks of a learner with a replay buffer."""

    @property
    @abc.abstractmethod
    def policy(self) -> BasePolicy[Any]:
        """The policy after the last batch, without statistics of observations."""

    @property
    @abc.abstractmethod
    def guards(self) -> tuple[GradientGuard, ...]:
        """The guards of the networks in training."""

    @property
    def skipped(self) -> Int[Array, ""]:
        """The number of their steps that were skipped so far."""
        first, *others = [guard.skipped for guard in self.guards]
        return sum(others, start=first)


class OffPolicyState[N: AbstractNets](AbstractLearnerState):
    """State of DQN, TD3 and SAC.

    - `step`: how often the trainer has played and learned.
    - `nets`: the networks, with their optimisers and targets.
    - `streams`: the environments, the episodes in progress, and their keys.
    - `buffer`: the latest steps.
    - `obs_stats`: the statistics of observations; `None` without `normalize_obs`.
    - `episodes`: the means over the episodes that ended last.
    """

    step: Step
    nets: N
    streams: Stream
    buffer: ReplayBuffer[Transition]
    obs_stats: ObsStats | None
    episodes: EpisodeMeans

    @property
    def guards(self) -> tuple[GradientGuard, ...]:
        """The guards of the networks in training."""
        return self.nets.guards

    @property
    def reusable(self) -> tuple[Array, ...]:
        """The arrays of the replay buffer."""
        return self.buffer.storage
