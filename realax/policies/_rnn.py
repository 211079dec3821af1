"""A recurrent policy."""

from typing import SupportsIndex, cast

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import arguments, whole
from .._errors import check_key
from .._keys import split
from .._types import PRNGKeyArray
from ._base import BasePolicy, check_obs


class RNNPolicy(BasePolicy[Float[Array, " hidden"]]):
    """A gated recurrent unit with a linear output: a policy with memory.

    Its memory starts at zero with each episode.

    **Arguments:**

    - `obs_dims`, `action_dims`: sizes of the flattened observation and of the output:
        the first two of `rx.ENV_SPACES[name]`.
    - `hidden`: the size of the memory.
    - `key`: the key of the initial weights, uniform as in equinox.

    **Raises:** `ValueError` for a size that is not positive.

    Source: K. Cho et al., Learning Phrase Representations using RNN Encoder-Decoder for
    Statistical Machine Translation, arXiv:1406.1078.
    """

    cell: eqx.nn.GRUCell
    head: eqx.nn.Linear

    @arguments(obs_dims=whole(), action_dims=whole(), hidden=whole())
    def __init__(
        self,
        obs_dims: SupportsIndex,
        action_dims: SupportsIndex,
        hidden: SupportsIndex,
        *,
        key: PRNGKeyArray,
    ):
        check_key(key)
        size = cast(int, hidden)
        cell_key, head_key = split(key)
        self.cell = eqx.nn.GRUCell(cast(int, obs_dims), size, key=cell_key)
        self.head = eqx.nn.Linear(size, cast(int, action_dims), key=head_key)

    def initialize(self, key: PRNGKeyArray) -> Float[Array, " hidden"]:
        """Return a memory of zeros, of shape `(hidden,)`; `key` is not used."""
        del key
        return jnp.zeros(self.cell.hidden_size, self.head.weight.dtype)

    def __call__(
        self,
        obs: Float[Array, " obs"],
        state: Float[Array, " hidden"],
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, " act"], Float[Array, " hidden"]]:
        """Return the output for one observation, and the next memory."""
        del key
        check_obs(obs, self.cell.input_size)
        # The memory would change its type with observations of another dtype.
        state = self.cell(obs.astype(state.dtype), state)
        return self.head(state), state
