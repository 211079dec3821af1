"""Policies that draw their actions from a distribution."""

import abc
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from .._errors import describe
from .._types import PRNGKeyArray, Scalar, Tree
from ._base import BasePolicy
from ._distributions import AbstractDistribution
from ._heads import AbstractHead


if TYPE_CHECKING:

    class _Sampling:
        """Declares `sample` for type checkers outside the dataclass.

        As a field it would be the first argument of subclasses.
        """

        sample: bool

else:

    class _Sampling(eqx.Module):
        sample: eqx.AbstractVar[bool]


class AbstractStochasticPolicy[H](_Sampling, BasePolicy[H]):
    """A policy that has a distribution of actions for each observation.

    It plays the mode of that distribution, or a sample of it if `sample` is True. A
    subclass writes `initialize` and `distribution`, and has a static field `sample`.
    """

    @abc.abstractmethod
    def distribution(self, obs: Any, state: H) -> tuple[AbstractDistribution[Any], H]:
        """Return the distribution of actions for an observation, and the next state.

        **Arguments:**

        - `obs`: the observation, as for `BasePolicy`.
        - `state`: returned by `initialize` or by the previous call.
        """

    def __call__(self, obs: Any, state: H, key: PRNGKeyArray) -> tuple[Tree, H]:
        """Return the mode, or a sample, and the next state."""
        distribution, state = self.distribution(obs, state)
        action = distribution.sample(key) if self.sample else distribution.mode()
        return action, state


class StochasticPolicy(AbstractStochasticPolicy[Any]):
    """A network, and a head that makes a distribution from its scores.

    **Arguments:**

    - `network`: a module `(obs) -> scores`, or a `BasePolicy` whose output is the
        scores, recurrent ones included. A network with two heads, for learners that
        train an actor and a critic in one, gives `(scores, value)`.
    - `head`: makes the distribution.
    - `sample`: whether to play a sample and not the mode. To change it, call
        `dataclasses.replace(policy, sample=True)`.
    """

    network: Any
    head: AbstractHead
    sample: bool = eqx.field(static=True, default=False)

    def initialize(self, key: PRNGKeyArray) -> Any:
        """Return the network's first state, `None` of a feed-forward one."""
        return first_state(self.network, key)

    def distribution(
        self, obs: Any, state: Any
    ) -> tuple[AbstractDistribution[Any], Any]:
        """Return the distribution of the action for one observation, and the state."""
        output, state = applied(self.network, obs, state)
        scores, _ = output if isinstance(output, tuple) else (output, None)
        return self.head(scores), state

    def judge(
        self, obs: Any, state: Any
    ) -> tuple[AbstractDistribution[Any], Scalar, Any]:
        """Return the distribution, the value, and the state of a two-headed network.

        **Raises:** `TypeError` for a network with one head.
        """
        output, state = applied(self.network, obs, state)
        if not (isinstance(output, tuple) and len(output) == 2):
            raise TypeError(
                "a network with two heads must return `(scores, value)`, but got "
                f"{describe(output)}."
            )
        scores, value = output
        return self.head(scores), one_value(value), state


def first_state(network: Any, key: PRNGKeyArray) -> Any:
    """Return the first state of a network, `None` of a feed-forward one."""
    return network.initialize(key) if isinstance(network, BasePolicy) else None


def applied(network: Any, obs: Any, state: Any) -> tuple[Any, Any]:
    """Return the output and the next state of a module or a `BasePolicy`.

    A policy gets the same key each time: randomness comes from distributions alone, so
    that a learner can compute the same scores again.
    """
    if isinstance(network, BasePolicy):
        decision = network.decide(obs, state, jr.key(0))
        return decision.output, decision.state
    return network(obs), state


def one_value(value: Float[Array, "..."]) -> Scalar:
    """Return the value that a critic estimates, an array of one number, as a scalar.

    **Raises:** `ValueError` for more than one number, while tracing.
    """
    if not eqx.is_array_like(value) or jnp.size(value) != 1:
        raise ValueError(
            "a critic must return one number, of shape () or (1,), but got "
            f"{describe(value)}. For example: `eqx.nn.MLP(obs_dims, 'scalar', 64, 2, "
            "key=key)`."
        )
    return jnp.reshape(jnp.asarray(value), ())
