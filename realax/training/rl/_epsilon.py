"""The schedule of epsilon-greedy exploration."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._arguments import Check, number


class Epsilon(eqx.Module):
    """The probability of a random action, which falls linearly.

    - `start`, `end`: at the beginning, and from `steps` on.
    - `steps`: the number of steps of all environments together in which it falls.
    """

    start: Float[Array, ""]
    end: Float[Array, ""]
    steps: Float[Array, ""]

    def after(self, played: Any) -> Float[Array, ""]:
        """Return the probability after some steps of all environments together."""
        share = jnp.minimum(played / self.steps, 1.0)
        return self.start + share * (self.end - self.start)


EPSILON_CHECKS: dict[str, Check] = {
    "epsilon_start": number(0.0, most=1.0),
    "epsilon_end": number(0.0, most=1.0),
    "epsilon_steps": number(above=0.0),
}
