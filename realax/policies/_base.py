"""What plays an environment."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array

from .._errors import describe
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


def decide(policy: Any, obs: Any, state: Any, key: PRNGKeyArray) -> tuple[Tree, Any]:
    """A policy's decision, refusing what is no pair, by a `TypeError`."""
    result: Any = policy(obs, state, key)
    if not (isinstance(result, tuple) and len(result) == 2):  # pyright: ignore[reportUnknownArgumentType]
        raise TypeError(
            f"`{type(policy).__name__}.__call__` must return a pair `(action, state)`, "
            f"but got {describe(result)}. Return `action, state`; `action, None` where "
            "nothing is remembered."
        )
    return result  # pyright: ignore[reportUnknownVariableType]


def check_obs(obs: Array, obs_dims: int) -> None:
    """Refuse an observation that a policy was not built for, by a `ValueError`."""
    if obs.shape != (obs_dims,):
        raise ValueError(
            f"this policy was built with `obs_dims={obs_dims}`, but got an observation "
            f"of shape {obs.shape}. Build it with `obs_dims={obs.size}`, as "
            "`rx.ENV_SPACES[name].obs_dims` says."
        )
