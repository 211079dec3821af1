"""Policies by estimates of each action's return."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from .._keys import quick
from .._types import PRNGKeyArray, Tree
from ._base import AbstractDecidingPolicy, BasePolicy, Decision
from ._stochastic import applied, first_state, one_value


class GreedyPolicy(BasePolicy[Any]):
    """Plays the action whose return is estimated to be the largest.

    **Arguments:**

    - `network`: a module `(obs) -> scores`, one for each action, or a `BasePolicy`
        whose output they are. With two heads, `(scores, value)`, it is a dueling
        network: the scores become differences from their mean, to which the value is
        added.

    The output is the estimates, of which an environment gets the argmax.

    Source: Z. Wang et al., Dueling Network Architectures for Deep Reinforcement
    Learning, arXiv:1511.06581, equation 9.
    """

    network: Any

    def initialize(self, key: PRNGKeyArray) -> Any:
        """Return the network's first state, `None` of a module without memory."""
        return first_state(self.network, key)

    def __call__(self, obs: Any, state: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
        """Return the estimated return of each action, and the next state."""
        del key
        output, state = applied(self.network, obs, state)
        if not isinstance(output, tuple):
            return output, state
        scores, value = output
        return one_value(value) + scores - jnp.mean(scores), state


class EpsilonGreedy(AbstractDecidingPolicy):
    """Plays a random action with some probability, and else that of a policy.

    The extras of a decision are `scores`, those of the policy in any case.

    **Arguments:**

    - `policy`: a policy whose output is a score for each action.
    - `epsilon`: the probability of a random action.
    - `size`: the number of actions.
    """

    policy: BasePolicy[Any]
    epsilon: Float[Array, ""]
    size: int = eqx.field(static=True)

    def initialize(self, key: PRNGKeyArray) -> Any:
        """Return the first state of the policy."""
        return self.policy.initialize(key)

    def noise_for(self, key: PRNGKeyArray, obs: Any, state: Any) -> Tree:
        """Return a number that decides whether to explore, and random scores."""
        del obs, state
        return jr.uniform(quick(key), (1 + self.size,))

    def decide(self, obs: Any, state: Any, noise: Tree) -> Decision[Any]:
        """Return scores, which are random in some steps, and the next state."""
        # The policies by estimates use no random numbers.
        scores, state = self.policy(obs, state, jr.key(0))
        chosen = jnp.where(noise[0] < self.epsilon, noise[1:], scores)
        return Decision(chosen, state, {"scores": scores})
