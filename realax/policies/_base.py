"""The contract of policies, which play environments."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array

from .._errors import describe
from .._types import PRNGKeyArray, Tree


class Decision[H](eqx.Module):
    """A policy's answer to one observation.

    - `output`: the policy's own output, before argmax or clipping.
    - `state`: the policy's next state.
    - `extras`: further arrays for learners, such as a log-probability or a value;
        `None` where there are none.
    - `checked`: True if the output is known to be an action of the environment, which
        is then not checked in each step.
    """

    output: Tree
    state: H
    extras: Tree = None
    checked: bool = eqx.field(static=True, default=False)


class BasePolicy[H](eqx.Module):
    """A policy with a state `H` that lives for one episode.

    A subclass is a whole model: its arrays are evolved or trained. Annotate `H` as
    `None` where nothing is remembered.

    A subclass writes `initialize` and `__call__`. A policy with more to tell than its
    action, such as a log-probability, overrides `decide` as well.
    """

    @abc.abstractmethod
    def initialize(self, key: PRNGKeyArray) -> H:
        """The state with which an episode begins.

        **Arguments:**

        - `key`: the episode's own key.
        """

    @abc.abstractmethod
    def __call__(self, obs: Any, state: H, key: PRNGKeyArray) -> tuple[Tree, H]:
        """The action for one observation.

        **Arguments:**

        - `obs`: the flattened observation, shape `(obs_dims,)`; of a task with
            `flatten_obs=False` the environment's own, an array of any shape or a tree.
        - `state`: returned by `initialize` or by the previous call.
        - `key`: this step's own key.

        **Returns:** The output and the next state. A float vector of shape
        `(action_dims,)` plays any environment: discrete ones take its argmax,
        continuous ones clip it to their bounds. An integer output is taken as the
        action itself.
        """

    def decide(self, obs: Any, state: H, key: PRNGKeyArray) -> Decision[H]:
        """The action for one observation, with extras for learners.

        Every rollout calls this method, which calls `__call__` and has no extras by
        default. Extras that nobody reads cost nothing once compiled.

        **Arguments:**

        - `obs`, `state`, `key`: as for `__call__`.

        **Returns:** A `Decision`. Its output and next state are those of `__call__`,
        and its extras have the same structure in every step.

        **Raises:** `TypeError` where `__call__` does not return a pair.
        """
        result: Any = self(obs, state, key)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(
                f"`{type(self).__name__}.__call__` must return a pair `(action, "
                f"state)`, but got {describe(result)}. Return `action, state`; "
                "`action, None` where nothing is remembered."
            )
        return Decision(*result)


def check_obs(obs: Array, obs_dims: int) -> None:
    """Refuse an observation that a policy was not built for, by a `ValueError`."""
    if obs.shape != (obs_dims,):
        raise ValueError(
            f"this policy was built with `obs_dims={obs_dims}`, but got an observation "
            f"of shape {obs.shape}. Build it with `obs_dims={obs.size}`, as "
            "`rx.ENV_SPACES[name].obs_dims` says."
        )
