"""A feed-forward policy."""

from collections.abc import Callable
from typing import Any, SupportsIndex

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .._errors import check_key, count
from .._types import PRNGKeyArray
from ._base import BasePolicy, check_obs


class MLPPolicy(BasePolicy[None]):
    """A multi-layer perceptron from observation to action, without memory.

    **Arguments:**

    - `obs_dims`, `action_dims`: sizes of the flattened observation and of the output;
        `rx.ENV_SPACES[name]` knows both.
    - `width`: the size of each hidden layer.
    - `depth`: how many hidden layers; 0 makes a linear policy.
    - `activation`: applied after each hidden layer; the output is linear.
    - `key`: initialises the weights (uniformly, as `equinox.nn.Linear` does).

    **Raises:** `ValueError` where a size is not positive.
    """

    mlp: eqx.nn.MLP

    def __init__(
        self,
        obs_dims: SupportsIndex,
        action_dims: SupportsIndex,
        width: SupportsIndex,
        depth: SupportsIndex,
        *,
        activation: Callable[[Any], Any] = jax.nn.tanh,
        key: PRNGKeyArray,
    ):
        check_key(key)
        self.mlp = eqx.nn.MLP(
            count("obs_dims", obs_dims),
            count("action_dims", action_dims),
            count("width", width),
            count("depth", depth, least=0),
            activation=activation,
            key=key,
        )

    def initialize(self, key: PRNGKeyArray) -> None:
        """Nothing is remembered: `None`."""
        del key

    def __call__(
        self, obs: Float[Array, " obs"], state: None, key: PRNGKeyArray
    ) -> tuple[Float[Array, " act"], None]:
        """The network's output for one observation; `key` is not used."""
        del key
        check_obs(obs, int(self.mlp.in_size))
        return self.mlp(obs), state
