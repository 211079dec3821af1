"""A feed-forward policy."""

from collections.abc import Callable
from typing import Any, SupportsIndex, cast

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .._arguments import arguments, whole
from .._errors import check_key
from .._types import PRNGKeyArray
from ._base import BasePolicy, check_obs


class MLPPolicy(BasePolicy[None]):
    """A multi-layer perceptron that maps observations to actions, without memory.

    **Arguments:**

    - `obs_dims`, `action_dims`: sizes of the flattened observation and of the output:
        the first two of `rx.ENV_SPACES[name]`.
    - `width`: the size of each hidden layer.
    - `depth`: the number of hidden layers; 0 makes a linear policy.
    - `activation`: the function after each hidden layer; the output is linear.
    - `key`: the key of the initial weights, uniform as in `equinox.nn.Linear`.

    **Raises:** `ValueError` for a size that is not positive.
    """

    mlp: eqx.nn.MLP

    @arguments(obs_dims=whole(), action_dims=whole(), width=whole(), depth=whole(0))
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
            cast(int, obs_dims),
            cast(int, action_dims),
            cast(int, width),
            cast(int, depth),
            activation=activation,
            key=key,
        )

    def initialize(self, key: PRNGKeyArray) -> None:
        """Return `None`, because the policy has no memory."""
        del key

    def __call__(
        self, obs: Float[Array, " obs"], state: None, key: PRNGKeyArray
    ) -> tuple[Float[Array, " act"], None]:
        """Return the network's output for one observation; `key` is not used."""
        del key
        check_obs(obs, int(self.mlp.in_size))
        return self.mlp(obs), state
