"""The rows that a `Logger` writes: `(state, metrics) -> (row, checkpoint, step)`."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._types import Tree


def default_es_metrics(
    state: Any, metrics: Any
) -> tuple[dict[str, Array], Tree, Array]:
    """For evolution: fitness over the generation, and the best individual so far.

    **Arguments:**

    - `state`: an `ESState`.
    - `metrics`: its generation's `ESMetrics`.

    **Returns:** The row, `state.best_params`, and `state.step`.
    """
    fitness = metrics["fitness"]
    usable = jnp.isfinite(fitness)
    row = {
        "best_fitness": metrics["best_fitness"],
        "mean_fitness": metrics["mean_fitness"],
        "min_fitness": jnp.min(fitness, where=usable, initial=jnp.inf),
        "max_fitness": jnp.max(fitness, where=usable, initial=-jnp.inf),
        "failed": metrics["failed"],
        "rejected": metrics["rejected"],
    }
    return row, state.best_params, state.step


def default_grad_metrics(
    state: Any, metrics: Any
) -> tuple[dict[str, Array], Tree, Array]:
    """For gradient training: the loss, and the parameters.

    **Arguments:**

    - `state`: a `GradState`.
    - `metrics`: its step's `GradMetrics`.

    **Returns:** The row, `state.params`, and `state.step`.
    """
    row = {
        "loss": metrics["loss"],
        "best_loss": state.best_loss,
        "grad_norm": metrics["grad_norm"],
        "skipped": metrics["skipped"],
    }
    return row, state.params, state.step


def default_metrics(state: Any, metrics: Any) -> tuple[dict[str, Any], Tree, Array]:
    """For any trainer: its metrics that are single numbers, and the whole state.

    **Arguments:**

    - `state`: the trainer's state.
    - `metrics`: the metrics of its step.

    **Returns:** The row, `state`, and `state.step`.
    """
    return numbers_of(metrics), state, state.step


def numbers_of(metrics: Any) -> dict[str, Array]:
    """Return the metrics that are single numbers."""
    return {
        name: jnp.asarray(value)
        for name, value in metrics.items()
        if eqx.is_array_like(value) and jnp.ndim(value) == 0
    }
