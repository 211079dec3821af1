"""The row that a logger selects of each step."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..._errors import describe
from ..._types import Tree


type MetricsFn = Callable[[Any, Any], tuple[Any, Any, Any]]


class Logged(eqx.Module):
    """Selects the row of each step, and the number to log it under.

    - `trainer`: the trainer as it is compiled, whose `log_row` is the default row.
    - `metrics_fn`: `(state, metrics) -> (row, checkpoint, step)`, or `None`.
    - `saving`: whether checkpoints are saved, which need all metrics.
    """

    trainer: Any
    metrics_fn: MetricsFn | None
    saving: bool = eqx.field(static=True)

    def __call__(self, state: Any, metrics: Any) -> Tree:
        """Return the row and its step, and all metrics if checkpoints are saved.

        **Raises:** `TypeError` if `metrics_fn` returns anything else.
        """
        row, _, step = self.choose(state, metrics)
        if not isinstance(row, dict):
            raise TypeError(
                "`metrics_fn` must return `(row, checkpoint, step)` with a dictionary "
                f"as its row, but got {describe(row)}."
            )
        lanes = jnp.shape(state.steps)
        if not eqx.is_array_like(step) or jnp.shape(step) not in ((), lanes):
            raise TypeError(
                "`metrics_fn` must return `(row, checkpoint, step)` with a number as "
                f"its step, but got {describe(step)}. For example: `return row, None, "
                "state.step`."
            )
        for name, value in row.items():
            reserved = ("step", "train_step", *(("lane",) if lanes else ()))
            if not eqx.is_array_like(value) or name in reserved:
                named = " or ".join(map(repr, reserved))
                raise TypeError(
                    "the row of `metrics_fn` must hold arrays and numbers, and none "
                    f"named {named}, but at {name!r} got {describe(value)}. Text can "
                    "be added by `host_log_transform`."
                )

        def of_lanes(value: Any) -> Array:
            """A number that is the same for all lanes has no axis of them."""
            same = jnp.ndim(value) == 0
            return jnp.broadcast_to(value, lanes) if same else jnp.asarray(value)

        return {
            "row": {name: of_lanes(value) for name, value in row.items()},
            "step": of_lanes(step),
            "steps": state.steps if jnp.ndim(state.steps) else None,
            "metrics": metrics if self.saving else None,
        }

    def choose(self, state: Any, metrics: Any) -> tuple[Any, Any, Any]:
        """Return the row, the tree to save as a checkpoint, and the step."""
        if self.metrics_fn is None:
            row = self.trainer.log_row(state, metrics)
            return row, self.trainer.best_params(state), state.steps
        result: Any = self.trainer.each_lane(self.metrics_fn, state, metrics)
        if not (isinstance(result, tuple) and len(result) == 3):
            raise TypeError(
                "`metrics_fn` must return `(row, checkpoint, step)`, but got "
                f"{describe(result)}. For example: `return row, None, state.step`."
            )
        return result


def checkpoint_of(logged: Logged, state: Any, metrics: Any) -> Any:
    """Return the tree to save as a checkpoint of a step."""
    return logged.choose(state, metrics)[1]
