"""The bounds of continuous actions."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The bounds of an action's components, one after another.

    They are static, because the arrays of a policy are trained.

    **Arguments:**

    - `low`, `high`: the bounds of each component.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def size(self) -> int:
        """The number of components."""
        return len(self.low)

    @property
    def arrays(self) -> tuple[Array, Array]:
        """Both as arrays of the default float type."""
        return jnp.asarray(self.low), jnp.asarray(self.high)
