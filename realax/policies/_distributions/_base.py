"""The contract of distributions, and what they share."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..._types import PRNGKeyArray, Scalar, Tree


class AbstractDistribution[A](eqx.Module):
    """A distribution of one action, of type `A`; `jax.vmap` makes batches.

    A subclass writes `sample`, `log_prob`, `entropy` and `mode`, and may split `sample`
    into `noise` and `sample_by`. It computes in at least float32, also where its
    parameters are narrower.
    """

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray) -> A:
        """A random action.

        **Arguments:**

        - `key`: all randomness comes from it.
        """

    def noise(self, key: PRNGKeyArray) -> Tree:
        """The random numbers of one sample, by default the key itself.

        They depend on the shapes and types of the parameters, and not on their values:
        a learner draws those of many steps at once.

        **Arguments:**

        - `key`: as for `sample`.

        **Returns:** Any tree of arrays.
        """
        return key

    def sample_by(self, noise: Tree) -> A:
        """The action that `sample` draws from the key of this noise.

        **Arguments:**

        - `noise`: random numbers from `noise`.
        """
        return self.sample(noise)

    @abc.abstractmethod
    def log_prob(self, action: A) -> Scalar:
        """The logarithm of the probability or density of an action.

        **Arguments:**

        - `action`: one action, as `sample` returns it.

        **Returns:** The sum over all components, shape `()`.
        """

    @abc.abstractmethod
    def entropy(self) -> Scalar:
        """The entropy in nats, the sum over all components, shape `()`."""

    @abc.abstractmethod
    def mode(self) -> A:
        """The action that is played where nothing is left to chance."""

    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[A, Scalar]:
        """A random action and its log-probability.

        **Arguments:**

        - `key`: as for `sample`, which draws the same action from it.
        """
        action = self.sample(key)
        return action, self.log_prob(action)


def wide_type(x: Any) -> Any:
    """The type of `x`, or float32 if that is narrower."""
    return jnp.promote_types(x.dtype, jnp.float32)


def wide(x: Array) -> Array:
    """`x` in at least float32."""
    return x.astype(wide_type(x))


def check_action(action: Array, shape: tuple[int, ...], kind: str) -> None:
    """Refuse an action whose components numpy's broadcasting would repeat."""
    if action.shape != shape:
        raise ValueError(
            f"`action` of a `{kind}` must have shape {shape}, but got {action.shape}. "
            "For a batch, map over distributions and actions with `jax.vmap`."
        )
