"""Distributions over choices."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

from ..._errors import check_key
from ..._keys import quick
from ..._types import PRNGKeyArray, Scalar
from ._base import AbstractDistribution, check_action, wide, wide_type


class Categorical(AbstractDistribution[Int[Array, "*event"]]):
    """One of several choices, or several independent ones of these.

    **Arguments:**

    - `logits`: unnormalised log-probabilities, shape `(*event, choices)`; `-inf` for an
        impossible choice, by which rows of fewer choices are padded. Each row needs a
        possible one.

    An action is an int32 array of shape `event`, which is `()` for a single choice.
    """

    logits: Float[Array, "*event choices"]

    def sample(self, key: PRNGKeyArray) -> Int[Array, "*event"]:
        """A random choice for each row, never one of probability 0.

        One uniform number is drawn for each row, so that probabilities are resolved to
        about 1e-7 in float32.
        """
        return self.sample_by(self.noise(key))

    def noise(self, key: PRNGKeyArray) -> Float[Array, "*event"]:
        """A uniform number from 0 to 1 for each row, of shape `event`."""
        check_key(key)
        return jr.uniform(quick(key), self.logits.shape[:-1], wide_type(self.logits))

    def sample_by(self, noise: Float[Array, "*event"]) -> Int[Array, "*event"]:
        """The choice of each row that a uniform number falls into."""
        weights = jnp.exp(self._log_probs())
        cumulated = jnp.cumsum(weights, axis=-1)
        reached = cumulated > (noise * cumulated[..., -1])[..., None]
        # A parallel sum is rounded differently at each place. So the weights decide
        # what is possible, and a possible choice is found even if none is reached.
        rank = jnp.where(weights > 0, reached.astype(jnp.int32), -1)
        return jnp.argmax(rank, axis=-1).astype(jnp.int32)

    def log_prob(self, action: Int[Array, "*event"]) -> Scalar:
        """The log-probability of one choice for each row.

        **Arguments:**

        - `action`: shape `event`.

        **Returns:** The sum over the rows; `-inf` if a choice is impossible or out of
        range.

        **Raises:** `ValueError` for an action of another shape.
        """
        check_action(action, self.logits.shape[:-1], "Categorical")
        log_probs = self._log_probs()
        taken = action[..., None] == jnp.arange(log_probs.shape[-1])
        taken &= log_probs != -jnp.inf
        # A comparison with each choice, since the gradient of an index is a scatter.
        found = jnp.sum(jnp.where(taken, log_probs, 0.0), axis=-1)
        return jnp.sum(jnp.where(jnp.any(taken, axis=-1), found, -jnp.inf))

    def entropy(self) -> Scalar:
        """The entropy in nats, in which impossible choices have no part."""
        log_probs = self._log_probs()
        # 0 * -inf is NaN, in the value and in the gradient.
        finite = jnp.where(log_probs != -jnp.inf, log_probs, 0.0)
        return -jnp.sum(jnp.exp(log_probs) * finite)

    def mode(self) -> Int[Array, "*event"]:
        """The most probable choice of each row, the first of equal ones."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def _log_probs(self) -> Float[Array, "*event choices"]:
        logits = wide(self.logits)
        top = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
        shifted = logits - top
        return shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True))
