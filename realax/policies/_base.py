"""What plays an environment."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array

from .._types import PRNGKeyArray, Tree


class BasePolicy[H](eqx.Module):
    """A policy with a state `H` that lives for one episode.

    A subclass is a whole model: its arrays are what is evolved or trained. Annotate
    `H` as `None` where nothing is remembered.
    """

    @abc.abstractmethod
    def initialize(self, key: PRNGKeyArray) -> H:
        """The state with which an episode begins.

        **Arguments:**

        - `key`: the episode's own key.
        """

    @abc.abstractmethod
    def __call__(self, obs: Any, state: H, key: PRNGKeyArray) -> tuple[Tree, H]:
        """One decision.

        **Arguments:**

        - `obs`: the flattened observation, shape `(obs_dims,)`.
        - `state`: what `initialize` or the call before returned.
        - `key`: this step's own key.

        **Returns:**

        The output and the next state. A float vector of shape `(action_dims,)` plays
        any environment: discrete ones take its argmax, continuous ones clip it to
        their bounds. An integer output is taken as the action itself.
        """


def check_obs(obs: Array, obs_dims: int) -> None:
    """Refuse an observation that a policy was not built for, by a `ValueError`."""
    if obs.shape != (obs_dims,):
        raise ValueError(
            f"this policy was built with `obs_dims={obs_dims}`, but an observation of "
            f"shape {obs.shape} came. Build it with `obs_dims={obs.size}`, as "
            "`rx.ENV_SPACES[name].obs_dims` says."
        )
