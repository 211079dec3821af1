"""Several tasks as one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key

from .._arguments import arguments, optional
from .._errors import describe
from .._keys import fold_in
from .._trees import with_fields
from .._types import PRNGKeyArray, Scalar, Step, Tree
from ._base import AbstractTask
from ._function import as_task


def _some(phrase: str, value: Any) -> Any:
    """Check that a value holds at least one task."""
    if not isinstance(value, Mapping | tuple | list) or not value:
        raise TypeError(
            f"{phrase} must be a tuple of tasks, or a dictionary of them by their "
            f"names, but got {describe(value)}."
        )
    return value


def _numbers(phrase: str, value: Any) -> Any:
    """Check that a value is a row of numbers."""
    if isinstance(value, jax.Array):
        return value
    try:
        numbers = np.asarray(value, float)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{phrase} must be numbers, but got {describe(value)}."
        ) from error
    if not np.isfinite(numbers).all():
        raise ValueError(f"{phrase} must be finite, but got {numbers.tolist()}.")
    return numbers


class MultiTask[P](AbstractTask[P]):
    """The weighted sum of several tasks on the same parameters.

    Each task gets its own key, `fold_in(key, i)` for task `i`, and evaluates whole
    populations in its own way. The aux is `{"fitness": {name: value}, "aux": {name:
    aux}}`, so that `metrics["eval_data"]["fitness"]["walk"]` is the fitness in the task
    named `"walk"`; tasks without an aux are left out of the second.

    **Arguments:**

    - `tasks`: tasks or functions `(params, key, data) -> (value, aux)`; a dictionary
        gives them names, which are else those of their functions and classes.
    - `weights`: the weight of each task, in the order of `tasks`; 1 by default.
    - `names`: the names of the tasks, in place of those of `tasks`.

    **Raises:** `ValueError` or `TypeError` for no tasks, for tasks of which some are
    maximised and others minimised, for two of one name, and for weights that do not
    fit.
    """

    # Not a dictionary, whose entries jax sorts: weights have the order of the user's.
    tasks: tuple[AbstractTask[P], ...]
    weights: Float[Array, " tasks"]
    names: tuple[str, ...] = eqx.field(static=True)
    drawn: bool = eqx.field(static=True, init=False)

    @arguments(tasks=_some, weights=optional(_numbers))
    def __init__(
        self,
        tasks: Mapping[str, Callable[..., Any]] | Sequence[Callable[..., Any]],
        weights: ArrayLike | Sequence[ArrayLike] | None = None,
        *,
        names: tuple[str, ...] | None = None,
    ):
        named = isinstance(tasks, Mapping)
        given = tasks.values() if named else tasks
        self.tasks = tuple(as_task(one, "tasks") for one in given)
        if names is None:
            own = (task.display_name.strip("`") for task in self.tasks)
            names = tuple(map(str, tasks if named else own))
        if len(names) != len(self.tasks):
            raise ValueError(
                f"`names` of `MultiTask` must be {len(self.tasks)}, one for each task, "
                f"but got {names}."
            )
        self.names = names
        self.drawn = False
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    "`tasks` of `MultiTask` must have different names, but two are "
                    f"{name!r}. Name them: `MultiTask({{'easy': ..., 'hard': ...}})`."
                )
        numbers = np.ones(len(names)) if weights is None else weights
        self.weights = jnp.asarray(numbers, jnp.result_type(float))
        if self.weights.shape != (len(self.tasks),):
            raise ValueError(
                f"`weights` of `MultiTask` must be {len(self.tasks)} numbers, one for "
                f"each task, but got {describe(weights)}."
            )
        if len({task.maximize for task in self.tasks}) > 1:
            shown = ", ".join(
                f"{name!r} is {'maximised' if task.maximize else 'minimised'}"
                for name, task in zip(names, self.tasks, strict=True)
            )
            raise ValueError(
                "`tasks` of `MultiTask` must all be maximised or all be minimised, but "
                f"{shown}. Change the sign of one in a task of your own."
            )

    @property
    def maximize(self) -> bool:
        """The direction of the tasks."""
        return self.tasks[0].maximize

    @property
    def stochastic(self) -> bool:
        """True if one of the tasks draws random numbers."""
        return any(task.stochastic for task in self.tasks)

    @property
    def differentiable(self) -> bool:
        """True if all of the tasks are."""
        return all(task.differentiable for task in self.tasks)

    @property
    def obstacle(self) -> str | None:
        """The reason why one of the tasks is not differentiable, or `None`."""
        found = (task.obstacle for task in self.tasks)
        return next((reason for reason in found if reason is not None), None)

    @property
    def on_host(self) -> bool:
        """True if one of the tasks runs on the host, where all are then evaluated."""
        return any(task.on_host for task in self.tasks)

    @property
    def compiler_options(self) -> dict[str, Any]:
        """Those of the tasks; of the first, where they differ."""
        options = dict[str, Any]()
        for task in reversed(self.tasks):
            options.update(task.compiler_options)
        return options

    def draw(
        self, data: Tree, key: PRNGKeyArray, step: Step
    ) -> tuple[AbstractTask[P], Tree]:
        """Return the tasks of a step, and the data of each."""
        pairs = [task.draw(data, key, step) for task in self.tasks]
        tasks, found = zip(*pairs, strict=True)
        return with_fields(self, tasks=tasks, drawn=True), found

    def __call__(
        self, params: P, key: PRNGKeyArray, data: Tree = None
    ) -> tuple[Scalar, Tree]:
        """Evaluate the parameters once in each task."""
        found = [
            task.checked_call(params, fold_in(key, i), self._of(data, i))
            for i, task in enumerate(self.tasks)
        ]
        return self._summed(found)

    def evaluate(
        self, population: Any, keys: Key[Array, "pop reps"], data: Tree = None
    ) -> tuple[Float[Array, "pop reps"], Tree]:
        """Evaluate a population in each task, as the task does it."""
        folded = jax.vmap(jax.vmap(fold_in, (0, None)), (0, None))
        found = [
            task.evaluate(population, folded(keys, i), self._of(data, i))
            for i, task in enumerate(self.tasks)
        ]
        return self._summed(found)

    def _of(self, data: Any, i: int) -> Tree:
        return data[i] if self.drawn else data

    def _summed(self, found: list[Any]) -> tuple[Any, Tree]:
        values = [value for value, _ in found]
        aux: dict[str, Any] = {"fitness": dict(zip(self.names, values, strict=True))}
        pairs = zip(self.names, found, strict=True)
        others = {name: one for name, (_, one) in pairs if one is not None}
        if others:
            aux["aux"] = others
        weighted = zip(self.weights, values, strict=True)
        return sum((w * value for w, value in weighted), start=jnp.zeros(())), aux


# The name of `MultiTask` in scripts of before.
MultiTaskAggregator = MultiTask
