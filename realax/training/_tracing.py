"""Runs under a trace: by `jit`, `vmap`, `grad` or a task."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from .._parts import closes_over_tracer
from ._callbacks import Callbacks


def is_traced(*trees: Any) -> bool:
    """Return whether a run on `trees`, or this very place, is being traced.

    What the trees close over counts: an optimiser made with a traced learning rate.
    """
    leaves = jax.tree.leaves(trees)
    if any(isinstance(x, Tracer) for x in [*leaves, jnp.zeros(())]):
        return True
    return closes_over_tracer(*trees)


def check_traced(trainer: Any, callbacks: Callbacks, batches: Any) -> None:
    """Refuse what needs the host.

    **Raises:** `RuntimeError` for observers and for batches of a stream.
    """
    name = type(trainer).__name__
    if observers := callbacks.observers:
        names = ", ".join(type(observer).__name__ for observer in observers)
        raise RuntimeError(
            f"a {name} with observers ({names}) is being traced by `jit`, `vmap`, "
            "`grad` or a task, where no host can watch. Attach observers to the "
            "outermost trainer only: build this one without `callbacks`, `logger` and "
            "`progress_bar`."
        )
    if batches is not None:
        raise RuntimeError(
            f"a {name} is being traced by `jit`, `vmap`, `grad` or a task, where no "
            "host can fetch batches. Stream outside of them, or pass all of the data "
            "at once: `trainer.train(state, key, data)`."
        )
