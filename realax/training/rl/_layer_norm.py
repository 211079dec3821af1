"""Normalisation of the features of a hidden layer."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


# As in `eqx.nn.LayerNorm`.
_EPS = 1e-5


class LayerNorm(eqx.Module):
    """Normalises features to mean 0 and variance 1, and then scales and shifts them.

    It returns what `eqx.nn.LayerNorm` does, with which an update of PQN takes 5 %
    longer. The `jit` of its own is what makes the derivative faster.

    **Arguments:**

    - `size`: the number of features.

    Source: J. L. Ba et al., Layer Normalization, arXiv:1607.06450.
    """

    weight: Float[Array, " size"]
    bias: Float[Array, " size"]

    def __init__(self, size: int):
        self.weight = jnp.ones(size)
        self.bias = jnp.zeros(size)

    def __call__(
        self, x: Float[Array, " size"], *, key: Any = None
    ) -> Float[Array, " size"]:
        """Return the normalised features, in their own type. The key is not used."""
        del key
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return (_standardized(wide) * self.weight + self.bias).astype(x.dtype)


@jax.jit
def _standardized(x: Float[Array, " size"]) -> Float[Array, " size"]:
    away = x - jnp.mean(x, -1, keepdims=True)
    return away * jax.lax.rsqrt(jnp.mean(away * away, -1, keepdims=True) + _EPS)
