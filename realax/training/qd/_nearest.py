"""The nearest of some points."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def nearest(
    points: Float[Array, "points dims"],
    place: Float[Array, " dims"],
    among: Bool[Array, " points"] | None = None,
) -> tuple[Int[Array, ""], Float[Array, ""]]:
    """Return the number of the nearest point, and the square of its distance.

    Of equally near ones it is the first.

    **Arguments:**

    - `points`, `place`: finite numbers.
    - `among`: which points count; by default, all. If none does, the square is infinite
        and the number 0.
    """
    # A sum over the longer axis and two minima are vectorised on CPU. A sum over the
    # shorter one and `argmin` are not, and take five times as long.
    squares = jnp.sum((points.T - place[:, None]) ** 2, axis=0)
    if among is not None:
        squares = jnp.where(among, squares, jnp.inf)
    least, last = jnp.min(squares), len(points) - 1
    number = jnp.arange(len(points), dtype=jnp.int32)
    # A square that is NaN equals nothing.
    return jnp.min(jnp.where(squares == least, number, last)), least
