"""Five environments whose values and best actions are known, for every learner.

The idea is that of A. Jones, Debugging Reinforcement Learning Systems (2021). The kind
is an array leaf, so that one compiled program trains on all five side by side.
"""

from typing import Any, override

import envelope
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from envelope.struct import field, static_field


CONSTANT, SEEN, DISCOUNTED, ACTED, BOTH = range(5)
GAMMA = 0.5


class Probe(envelope.Environment):
    """An episode of one step, or of two where rewards are discounted.

    | kind | observation | reward |
    | --- | --- | --- |
    | constant | 0 | 1 |
    | seen | 1 or -1 | the observation |
    | discounted | 0, then 1 | 0, then 1 |
    | acted | 0 | 1 for the best action |
    | both | 1 or -1 | 1 for the best action there |

    The best discrete action is 1 at the observations 0 and 1, and 0 at -1. The best
    continuous one is half of the sign of these, and the reward falls by the squared
    distance from it.
    """

    kind: Any = field(default=0)
    discrete: bool = static_field(default=True)

    @override
    def init(self, key: Any) -> Any:
        sign = jnp.where(jr.bernoulli(key), 1.0, -1.0)
        shown = (self.kind == SEEN) | (self.kind == BOTH)
        obs = jnp.where(shown, sign, 0.0)
        state = {"obs": obs, "t": jnp.zeros((), jnp.int32)}
        return state, envelope.InfoContainer(
            obs=obs[None], reward=jnp.zeros(()), terminated=jnp.asarray(False)
        )

    @override
    def step(self, state: Any, action: Any) -> Any:
        obs, second = state["obs"], state["t"] == 1
        side = jnp.where(obs < 0, -1.0, 1.0)
        if self.discrete:
            good = jnp.where((2.0 * action - 1.0) == side, 1.0, 0.0)
        else:
            good = 1.0 - jnp.sum((action - 0.5 * side) ** 2)
        delayed = self.kind == DISCOUNTED
        reward = jnp.select(
            [self.kind == CONSTANT, self.kind == SEEN, delayed],
            [1.0, obs, jnp.where(second, 1.0, 0.0)],
            good,
        )
        obs = jnp.where(delayed, 1.0, obs)
        state = {"obs": obs, "t": state["t"] + 1}
        return state, envelope.InfoContainer(
            obs=obs[None], reward=reward, terminated=jnp.logical_not(delayed) | second
        )

    @property
    @override
    def observation_space(self) -> Any:
        return envelope.Continuous.from_shape(-1.0, 1.0, (1,))

    @property
    @override
    def action_space(self) -> Any:
        if self.discrete:
            return envelope.Discrete(n=2)
        return envelope.Continuous.from_shape(-3.0, 3.0, (1,))


def with_kind(trainer: Any, kind: Any) -> Any:
    """A trainer whose task is the probe of that kind."""
    return eqx.tree_at(lambda t: t.env.env.kind, trainer, jnp.asarray(kind))


# (kind, observation, value)
VALUES = [
    (CONSTANT, 0.0, 1.0),
    (SEEN, 1.0, 1.0),
    (SEEN, -1.0, -1.0),
    (DISCOUNTED, 0.0, GAMMA),
    (DISCOUNTED, 1.0, 1.0),
]
# (kind, observation, side of the best action)
ACTIONS = [(ACTED, 0.0, 1.0), (BOTH, 1.0, 1.0), (BOTH, -1.0, -1.0)]


def of_kind(tree: Any, kind: int) -> Any:
    """One of the results that were mapped over kinds."""
    return jax.tree.map(lambda leaf: leaf[kind], tree)
