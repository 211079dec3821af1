"""A feed-forward policy."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .._errors import check_key, check_positive
from .._types import PRNGKeyArray
from ._base import BasePolicy


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
        obs_dims: int,
        action_dims: int,
        width: int,
        depth: int,
        *,
        activation: Callable[[Any], Any] = jax.nn.tanh,
        key: PRNGKeyArray,
    ):
        check_key(key)
        check_positive(obs_dims=obs_dims, action_dims=action_dims, width=width)
        if depth < 0:
            raise ValueError(f"`depth` must not be negative, but {depth} came.")
        self.mlp = eqx.nn.MLP(
            obs_dims, action_dims, width, depth, activation=activation, key=key
        )

    def initialize(self, key: PRNGKeyArray) -> None:
        """Nothing is remembered: `None`."""
        del key

    def __call__(
        self, obs: Float[Array, " obs"], state: None, key: PRNGKeyArray
    ) -> tuple[Float[Array, " act"], None]:
        """The network's output for one observation; `key` is not used."""
        del key
        if obs.shape != (self.mlp.in_size,):
            raise ValueError(
                f"this policy was built with `obs_dims={self.mlp.in_size}`, but an "
                f"observation of shape {obs.shape} came. Build it with "
                f"`obs_dims={obs.size}`, as `rx.ENV_SPACES[name].obs_dims` says."
            )
        return self.mlp(obs), state
