"""Which individuals of a generation count."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


# No task means a larger number; squares of it would overflow single precision.
LARGEST = 1e15


def usable_of(
    population: Float[Array, "pop dims"], *numbers: Float[Array, "..."]
) -> Bool[Array, " pop"]:
    """Return which individuals are finite, and have numbers that are, up to 1e15.

    **Arguments:**

    - `population`: one flat individual in each row.
    - `numbers`: what was measured of each, such as its fitness.
    """
    # A product is faster than a check of each number, and not finite if one of them is.
    tiny = jnp.finfo(population.dtype).tiny
    usable = jnp.isfinite(population @ jnp.full(population.shape[-1], tiny))
    for each in numbers:
        sound = jnp.isfinite(each) & (jnp.abs(each) <= LARGEST)
        usable &= jnp.all(sound.reshape(len(sound), -1), axis=-1)
    return usable
