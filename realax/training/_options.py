"""Keywords that trainers and the functions around them share."""

from collections.abc import Mapping
from typing import Any, TypedDict

from .._arguments import Check, Count, flag, keywords
from .._compile import checked_options
from .._frozen import Frozen, freeze
from .._types import Tree
from ..tasks import AbstractTask
from ._callbacks import CallbacksLike, as_callbacks
from ._checks import logger as a_logger
from .observers import Logger


class RunOptions(TypedDict, total=False):
    """Keywords of `evolve` and `optimize` that concern a run of any trainer.

    - `steps`: the number of steps.
    - `data`: the data of each step, for the task or the loss.
    - `logger`, `progress_bar`, `callbacks`, `compiler_options`: as for the trainer.
    """

    steps: Count
    data: Tree
    logger: Logger | None
    progress_bar: bool
    callbacks: CallbacksLike
    compiler_options: Mapping[str, Any] | None


# Checks of the arguments that every trainer takes.
RUN_CHECKS: dict[str, Check] = {
    "callbacks": as_callbacks,
    "logger": a_logger,
    "progress_bar": flag,
    "compiler_options": keywords,
}


def frozen_options(options: Mapping[str, Any] | None, owner: str) -> Frozen | None:
    """Return a trainer's own compiler options as a static field.

    **Arguments:**

    - `options`: XLA's options, values by name; `None` for those of the task.
    - `owner`: the trainer's name, for messages.

    **Raises:** `TypeError` for anything but a dictionary of names and values.
    """
    return None if options is None else freeze(checked_options(options, owner))


def own_or_of_task(own: Frozen | None, task: AbstractTask[Any]) -> dict[str, Any]:
    """Return a trainer's own compiler options, or else those of its task."""
    if own is not None:
        return own.thaw()
    return checked_options(task.compiler_options, task.display_name)
