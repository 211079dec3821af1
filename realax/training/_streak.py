"""A count of consecutive steps with an event."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from .._check import no_type_check


# The user is warned after so many unusable steps in a row.
PATIENCE = 100


class Streak(eqx.Module):
    """Counts steps in a row with an event; a part of a trainer's state.

    - `current`: the number of steps up to the last one; 0 if it did not happen there.
    - `longest`: the largest such number so far.
    """

    current: Int[Array, ""]
    longest: Int[Array, ""]

    @staticmethod
    def none() -> "Streak":
        """Return a count before the first step."""
        zero = jnp.zeros((), jnp.int32)
        return Streak(zero, zero)

    def after(self, happened: Bool[Array, ""]) -> "Streak":
        """Return the count after one more step."""
        current = jnp.where(happened, self.current + 1, 0)
        return Streak(current, jnp.maximum(current, self.longest))

    @property
    @no_type_check
    def maximum(self) -> int:
        """`longest` as an `int`; of several runs in parallel, the largest."""
        longest: Any = self.longest
        return int(np.asarray(longest).max())
