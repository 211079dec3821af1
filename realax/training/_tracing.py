"""Detection of runs that are traced by `jit`, `vmap`, `grad` or a task."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from .._check import no_type_check
from .._parts import closes_over_tracer
from ._feed import AbstractFeed


@no_type_check
def holds_tracer(tree: Any) -> bool:
    """Return whether a leaf of a tree is traced. Cheap, because nothing is computed."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))


def is_traced(*trees: Any) -> bool:
    """Return whether a trace is in progress, or `trees` hold traced arrays.

    Arrays in closures count too, such as the traced learning rate of an optimiser.
    """
    leaves = jax.tree.leaves(trees)
    if any(isinstance(x, Tracer) for x in [*leaves, jnp.zeros(())]):
        return True
    return closes_over_tracer(*trees)


def check_no_observers(trainer: Any) -> None:
    """Refuse observers, which need the host, in a run that is traced.

    **Raises:** `RuntimeError`.
    """
    if observers := trainer.callbacks.observers:
        names = ", ".join(type(observer).__name__ for observer in observers)
        raise RuntimeError(
            f"a {type(trainer).__name__} with observers ({names}) is being traced by "
            "`jit`, `vmap`, `grad` or a task, where observers cannot run. Attach "
            "observers to the outermost trainer only: build this one without "
            "`callbacks`, `logger` and `progress_bar`."
        )


def check_traced(trainer: Any, feed: AbstractFeed) -> None:
    """Refuse observers and data of the host in a run that is traced.

    **Raises:** `RuntimeError`.
    """
    check_no_observers(trainer)
    if feed.needs_host:
        raise RuntimeError(
            f"a {type(trainer).__name__} is being traced by `jit`, `vmap`, `grad` or a "
            f"task, {feed.under_trace}"
        )
