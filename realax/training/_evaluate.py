"""The evaluation of a population on a task, which all trainers share."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from .._check import no_type_check
from .._types import Tree
from ..tasks import AbstractTask, Evaluation
from ..tasks._observing import evaluated
from ._devices import divided


class LaneValues(eqx.Module):
    """The aux of a task that evaluates the parameters of runs side by side.

    - `values`: the value of each of them.
    """

    values: Float[Array, "*batch lanes"]


@no_type_check
def evaluate_population[P](
    task: AbstractTask[P],
    population: Any,
    keys: Key[Array, "pop reps"],
    data: Tree = None,
    n_devices: int = 1,
) -> Evaluation:
    """Evaluate a population on a task.

    **Arguments:**

    - `task`: the task of one step, as `AbstractTask.draw` returns it.
    - `population`: parameters with a leading axis `pop` on every array; bound to
        statistics of observations if the task has some.
    - `keys`: one for each individual and repetition. They are split before anything is
        distributed, so that `n_devices` changes only the order of floating-point sums.
    - `data`: the data for all individuals.
    - `n_devices`: the number of devices over which the population is divided; a divisor
        of `pop`.

    **Returns:** The values, shape `(pop, reps)`; the aux, and the moments of
    observations if the task sums them up, with the same two leading axes.
    """

    def evaluate(split: Any, shared: Any) -> Evaluation:
        (population, keys), (task, data) = split, shared
        result = evaluated(task, population, keys, data)
        if n_devices > 1:
            _check_axes(result.aux, keys.shape)
        return result

    return divided(evaluate, (population, keys), (task, data), n_devices)


def _check_axes(aux: Tree, jobs: tuple[int, ...]) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(aux):
        if jnp.shape(leaf)[:2] != jobs:
            raise ValueError(
                f"with `n_devices`, the aux must have the leading axes (pop, reps), "
                f"here {jobs}, but got shape {jnp.shape(leaf)} at "
                f"`{jax.tree_util.keystr(path) or '(root)'}`. Return it for each "
                "individual, or evaluate on one device."
            )
