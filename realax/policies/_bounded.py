"""Policies whose actions lie between bounds."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from .._keys import quick
from .._types import PRNGKeyArray, Tree
from ._base import AbstractDecidingPolicy, BasePolicy, Decision
from ._bounds import Bounds
from ._distributions import squash
from ._stochastic import applied, first_state


class BoundedPolicy(BasePolicy[Any]):
    """Plays the tanh of a network's output, scaled to bounds.

    **Arguments:**

    - `network`: a module `(obs) -> output`, of shape `(action_dims,)`, or a
        `BasePolicy` with that output.
    - `bounds`: the bounds of each component.
    """

    network: Any
    bounds: Bounds = eqx.field(static=True)

    def initialize(self, key: PRNGKeyArray) -> Any:
        """Return the network's first state, `None` of a module without memory."""
        return first_state(self.network, key)

    def __call__(
        self, obs: Any, state: Any, key: PRNGKeyArray
    ) -> tuple[Float[Array, " actions"], Any]:
        """Return an action between the bounds, and the next state."""
        del key
        output, state = applied(self.network, obs, state)
        low, high = self.bounds.arrays
        return squash(output, low, high), state


class NoisyPolicy(AbstractDecidingPolicy):
    """Plays the action of a policy with normal noise, clipped to the bounds.

    **Arguments:**

    - `policy`: a policy whose actions lie between the bounds.
    - `deviation`: the noise's standard deviation, in half of the distance of the
        bounds.
    - `bounds`: the bounds of each component.
    """

    policy: BasePolicy[Any]
    deviation: Float[Array, ""]
    bounds: Bounds = eqx.field(static=True)

    def initialize(self, key: PRNGKeyArray) -> Any:
        """Return the first state of the policy."""
        return self.policy.initialize(key)

    def noise_for(self, key: PRNGKeyArray, obs: Any, state: Any) -> Tree:
        """Return a standard normal number for each component."""
        del obs, state
        return jr.normal(quick(key), (self.bounds.size,))

    def decide(self, obs: Any, state: Any, noise: Tree) -> Decision[Any]:
        """Return a noisy action, and the next state."""
        action, state = self.policy(obs, state, jr.key(0))
        low, high = self.bounds.arrays
        action += self.deviation * (high - low) / 2 * noise
        return Decision(jnp.clip(action, low, high), state)


class RandomPolicy(AbstractDecidingPolicy):
    """Plays actions that are uniformly distributed between bounds.

    With bounds 0 and 1 its output is random scores, of which each is the largest with
    the same probability.

    **Arguments:**

    - `bounds`: the bounds of each component.
    - `policy`: the policy that plays afterwards, whose state it passes on.
    """

    bounds: Bounds = eqx.field(static=True)
    policy: BasePolicy[Any]

    def initialize(self, key: PRNGKeyArray) -> Any:
        """Return the first state of the other policy."""
        return self.policy.initialize(key)

    def noise_for(self, key: PRNGKeyArray, obs: Any, state: Any) -> Tree:
        """Return a number from 0 to 1 for each component."""
        del obs, state
        return jr.uniform(quick(key), (self.bounds.size,))

    def decide(self, obs: Any, state: Any, noise: Tree) -> Decision[Any]:
        """Return a random action."""
        del obs
        low, high = self.bounds.arrays
        return Decision(low + (high - low) * noise, state)
