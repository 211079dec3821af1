"""The derivatives of a task's fitness and descriptor."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..._types import PRNGKeyArray, Tree
from ...tasks import AbstractTask


class Slopes(eqx.Module):
    """The derivatives of a task at some points.

    - `gradient`: of the quality, which is the fitness with the sign such that larger is
        better.
    - `jacobian`: of each entry of the descriptor.
    """

    gradient: Float[Array, "points dims"]
    jacobian: Float[Array, "points entries dims"]

    @property
    def directions(self) -> Float[Array, "points directions dims"]:
        """The gradient, and then those of the descriptor, each of length 1.

        Those that vanish, or are not finite, are 0.
        """
        rows = jnp.concatenate([self.gradient[:, None], self.jacobian], axis=1)
        # Scaled first, because squares of large numbers would be infinite.
        largest = jnp.max(jnp.abs(rows), axis=-1, keepdims=True)
        known = (largest > 0) & jnp.isfinite(largest)
        rows = jnp.where(known, rows / jnp.where(known, largest, 1.0), 0.0)
        length = jnp.linalg.norm(rows, axis=-1, keepdims=True)
        return rows / jnp.where(known, length, 1.0)


# Returns the derivatives at points, one in each row.
type SlopesAt = Callable[[Float[Array, "points dims"]], Slopes]


def slopes_at(
    points: Float[Array, "points dims"],
    keys: Key[Array, "points reps"],
    task: AbstractTask[Any],
    data: Tree,
    params_of: Callable[[Array], Any],
    measured: Callable[[Tree], Float[Array, "1 entries"]],
) -> Slopes:
    """Return the derivatives of a task, by reverse mode.

    **Arguments:**

    - `points`: one flat individual in each row.
    - `keys`: one for each evaluation, whose results are averaged.
    - `task`: the task of one step, as `AbstractTask.draw` returns it.
    - `data`: its data.
    - `params_of`: makes the user's parameters of a flat individual.
    - `measured`: returns the descriptor of an aux with the leading axes `(1, reps)`.
    """

    def outcome(flat: Array, keys: Array) -> Array:
        def one(key: PRNGKeyArray) -> Any:
            return task.checked_call(params_of(flat), key, data)

        values, aux = jax.vmap(one)(keys)
        descriptor = measured(jax.tree.map(lambda leaf: leaf[None], aux))[0]
        quality = jnp.mean(values) * (1 if task.maximize else -1)
        return jnp.concatenate([quality[None], descriptor])

    rows = jax.vmap(jax.jacrev(outcome))(points, keys)
    return Slopes(gradient=rows[:, 0], jacobian=rows[:, 1:])
