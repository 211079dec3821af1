"""Tasks of quality diversity with published marks."""

from typing import Any

import jax.numpy as jnp


_BOUND = 5.12


def sphere(dims: int) -> Any:
    """Return the sphere with a linear projection, from 0 to 100, to be maximised.

    Its minimum is at 0.4 times the bound. The descriptor is the sum of each half of the
    numbers, of which those beyond the bound count as its inverse.

    Source: M. C. Fontaine et al., arXiv:1912.02400.
    """
    optimum = 0.4 * _BOUND
    worst = dims * (_BOUND + optimum) ** 2

    def task(x: Any, key: Any, data: Any = None) -> Any:
        del key, data
        clipped = jnp.where(jnp.abs(x) <= _BOUND, x, _BOUND / x)
        halves = jnp.stack([clipped[: dims // 2].sum(), clipped[dims // 2 :].sum()])
        value = 100 * (1 - jnp.sum((x - optimum) ** 2) / worst)
        return value, {"descriptor": halves}

    task.maximize = True  # pyright: ignore[reportFunctionMemberAccess]
    return task


def arm(angles: Any, key: Any, data: Any = None) -> Any:
    """The variance of an arm's angles, to be minimised, and where its hand is.

    Source: pyribs' tutorial on the arm; A. Cully et al., arXiv:1407.3501.
    """
    del key, data
    total = jnp.cumsum(angles)
    hand = jnp.stack([jnp.sum(jnp.cos(total)), jnp.sum(jnp.sin(total))])
    return jnp.var(angles), {"descriptor": hand}
