"""An actor and a critic, which learners train together."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool

from .._keys import split
from .._trees import where
from .._types import PRNGKeyArray, Scalar, Tree
from ._base import AbstractDecidingPolicy, Decision
from ._distributions import AbstractDistribution
from ._stochastic import (
    AbstractStochasticPolicy,
    StochasticPolicy,
    applied,
    first_state,
    one_value,
)


class Judgement(eqx.Module):
    """The answer of an actor and a critic to one observation.

    - `distribution`: the distribution of the action.
    - `value`: the estimate of the discounted return from here.
    - `state`: the next states of both.
    """

    distribution: AbstractDistribution[Any]
    value: Scalar
    state: Tree


class ActorCritic(eqx.Module):
    """A policy, and the estimate of its returns.

    **Arguments:**

    - `policy`: the policy.
    - `critic`: a module `(obs) -> value`, or a `BasePolicy` whose output is the value.
        `None` if the policy's network has two heads, and returns `(scores, value)`.
    """

    policy: AbstractStochasticPolicy[Any]
    critic: Any = None

    def initialize(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        """Return the first states of the policy and of the critic."""
        policy_key, critic_key = split(key)
        return self.policy.initialize(policy_key), first_state(self.critic, critic_key)

    def __call__(self, obs: Any, state: tuple[Any, Any]) -> Judgement:
        """Return the distribution of the action, and the value of one observation."""
        policy_state, critic_state = state
        policy = self.policy
        if self.critic is None and isinstance(policy, StochasticPolicy):
            distribution, value, policy_state = policy.judge(obs, policy_state)
        else:
            distribution, policy_state = policy.distribution(obs, policy_state)
            value, critic_state = applied(self.critic, obs, critic_state)
            value = one_value(value)
        return Judgement(distribution, value, (policy_state, critic_state))

    @property
    def recurrent(self) -> bool:
        """True if the policy or the critic has a state."""
        states = eqx.filter_eval_shape(self.initialize, jr.key(0))
        return bool(jax.tree.leaves(states))


class Explorer(AbstractDecidingPolicy):
    """Plays samples of a policy, and keeps what a learner needs to know of them.

    The extras of a decision are `distribution`, of which the action is a sample, and
    `state`, the states of actor and critic before it. The probability of the action is
    left to the learner, which computes those of all steps at once.

    **Arguments:**

    - `model`: the actor and critic.
    - `checked`: whether its samples are known to be actions of the environment.
    """

    model: ActorCritic
    checked: bool = eqx.field(static=True, default=False)

    def initialize(self, key: PRNGKeyArray) -> Any:
        """Return the first states of the actor and of the critic."""
        return self.model.initialize(key)

    def noise_for(self, key: PRNGKeyArray, obs: Any, state: Any) -> Tree:
        """Return the random numbers of one sample."""
        judgement = eqx.filter_eval_shape(self.model, obs, state)
        return judgement.distribution.noise(key)

    def decide(self, obs: Any, state: Any, noise: Tree) -> Decision[Any]:
        """Return a sample, the next states, and the extras."""
        judgement = self.model(obs, state)
        action = judgement.distribution.sample_by(noise)
        extras = {"distribution": judgement.distribution, "state": state}
        return Decision(action, judgement.state, extras, self.checked)


def replay(
    model: ActorCritic, obs: Tree, states: Tree, fresh: Bool[Array, " steps"]
) -> Judgement:
    """Return the judgements of a recurrent model on a sequence of observations.

    **Arguments:**

    - `model`: the actor and critic.
    - `obs`: the observations, with a leading axis `steps`.
    - `states`: the states before each step as they were when it was played. Those of
        `fresh` steps are used; later ones are computed anew.
    - `fresh`: True where an episode or the sequence begins.
    """
    first = jax.tree.map(lambda leaf: leaf[0], states)

    def step(state: Tree, row: Any) -> tuple[Tree, Judgement]:
        obs, recorded, begins = row
        judgement = model(obs, where(begins, recorded, state))
        return jax.tree.map(jnp.asarray, judgement.state), judgement

    return jax.lax.scan(step, first, (obs, states, fresh))[1]
