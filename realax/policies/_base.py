"""The contract of policies, which play environments."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array

from .._errors import describe
from .._types import PRNGKeyArray, Tree


class Decision[H](eqx.Module):
    """A policy's output for one observation, with its next state.

    - `output`: the policy's own output, before argmax or clipping.
    - `state`: the policy's next state.
    - `extras`: further arrays for learners, such as a log-probability or a value, or
        `None`.
    - `checked`: True if the output is known to be an action of the environment, which
        is then not checked in each step.
    """

    output: Tree
    state: H
    extras: Tree = None
    checked: bool = eqx.field(static=True, default=False)


class BasePolicy[H](eqx.Module):
    """A policy with a state `H` that lives for one episode.

    A subclass is a whole model: its arrays are evolved or trained. `H` is `None` for a
    policy without memory.

    A subclass defines `initialize` and `__call__`. A policy that also returns a
    log-probability or a value overrides `decide`.
    """

    @abc.abstractmethod
    def initialize(self, key: PRNGKeyArray) -> H:
        """Return the state with which an episode begins.

        **Arguments:**

        - `key`: the episode's own key.
        """

    @abc.abstractmethod
    def __call__(self, obs: Any, state: H, key: PRNGKeyArray) -> tuple[Tree, H]:
        """Choose the action for one observation.

        **Arguments:**

        - `obs`: the flattened observation, of shape `(obs_dims,)`. With
            `flatten_obs=False` it is the environment's own: an array of any shape, or a
            tree.
        - `state`: the result of `initialize` or the next state of the previous call.
        - `key`: this step's own key.

        **Returns:** The output and the next state. A float vector of shape
        `(action_dims,)` fits any environment: its argmax is a discrete action, and a
        continuous action is clipped to the bounds. An integer output is the action
        itself.
        """

    def noise_for(self, key: PRNGKeyArray, obs: Any, state: H) -> Tree:
        """Return the random numbers of one step for `decide`, by default its key.

        They may depend on the shapes and types of the observation and the state, and
        not on their values: streams draw those of many steps at once.

        **Arguments:**

        - `key`: the step's own key.
        - `obs`, `state`: as for `__call__`, of any step.

        **Returns:** Any tree of arrays.
        """
        del obs, state
        return key

    def decide(self, obs: Any, state: H, noise: Tree) -> Decision[H]:
        """Choose the action for one observation, with extras for learners.

        Every rollout calls this method. By default it calls `__call__` and returns no
        extras. Extras that are not used cost nothing once compiled.

        **Arguments:**

        - `obs`, `state`: as for `__call__`.
        - `noise`: from `noise_for` for this step; by default the step's own key.

        **Returns:** A `Decision`. Its output and next state are those of `__call__`,
        and its extras have the same structure in every step.

        **Raises:** `TypeError` if `__call__` does not return a pair.
        """
        result: Any = self(obs, state, noise)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(
                f"`{type(self).__name__}.__call__` must return a pair `(action, "
                f"state)`, but got {describe(result)}. Return `action, None` if "
                "the policy has no memory."
            )
        return Decision(*result)


class AbstractDecidingPolicy(BasePolicy[Any]):
    """A policy that is defined by `decide`; a call draws the random numbers for it.

    A subclass writes `initialize`, `noise_for` and `decide`.
    """

    def __call__(self, obs: Any, state: Any, key: PRNGKeyArray) -> tuple[Tree, Any]:
        """Return the output and the next state of a decision."""
        decision = self.decide(obs, state, self.noise_for(key, obs, state))
        return decision.output, decision.state

    @abc.abstractmethod
    def decide(self, obs: Any, state: Any, noise: Tree) -> Decision[Any]:
        """Return the decision for one observation, as `BasePolicy.decide`."""


def check_obs(obs: Array, obs_dims: int) -> None:
    """Check that an observation has the size for which a policy was built.

    **Raises:** `ValueError` for another size.
    """
    if obs.shape != (obs_dims,):
        raise ValueError(
            f"this policy was built with `obs_dims={obs_dims}`, but got an observation "
            f"of shape {obs.shape}. Build it with `obs_dims={obs.size}`, as "
            "`rx.ENV_SPACES[name].obs_dims` says."
        )
