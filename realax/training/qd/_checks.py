"""Checks of the arguments of quality diversity."""

from typing import Any

from ..._arguments import Check, function, instance, number, optional, whole
from ..._errors import describe
from ...tasks import AbstractTask
from ...tasks._observing import obs_stats_of
from .._checks import record, trainable
from .._options import RUN_CHECKS
from ._archive import AbstractArchive
from ._emitter import AbstractEmitter
from ._names import emitter_of


def _names(phrase: str, value: Any) -> tuple[str, ...]:
    names: Any = (value,) if isinstance(value, str) else value
    if not isinstance(names, tuple | list) or not all(
        isinstance(one, str) for one in names
    ):
        raise TypeError(
            f"{phrase} must be names of entries of the task's aux, such as "
            f'`("length",)`, but got {describe(value)}.'
        )
    return tuple(names)


QD_CHECKS: dict[str, Check] = {
    "train_steps": whole(),
    "task": function("(params, key, data) -> (fitness, aux)"),
    "params_like": optional(trainable),
    "archive": instance(AbstractArchive, "rx.GridArchive((50, 50), 0.0, 1.0)"),
    "emitter": emitter_of,
    "popsize": whole(),
    "eval_reps": whole(),
    "qd_offset": number(),
    "initializer": optional(function("(key) -> parameters")),
    "init_std": number(0.0),
    "descriptor_fn": optional(function("(aux) -> descriptor")),
    "keep": _names,
    "n_devices": whole(),
    "record": record,
    **RUN_CHECKS,
}


def check_start(params_like: Any, initializer: Any) -> None:
    """Refuse a trainer without a first population, and one with two.

    **Raises:** `ValueError`.
    """
    if (params_like is None) == (initializer is None):
        got = "neither" if params_like is None else "both"
        raise ValueError(
            "`QDTrainer` needs either `params_like`, around which the first population "
            f"is drawn, or `initializer`, a function of a key that draws each, but got "
            f"{got}."
        )


def check_derivatives(emitter: AbstractEmitter, task: AbstractTask[Any]) -> None:
    """Refuse an emitter that asks for derivatives of a task which has none.

    **Raises:** `ValueError` with the reason and the remedy.
    """
    if emitter.differentiates and (reason := task.obstacle) is not None:
        raise ValueError(
            f"`emitter` of `QDTrainer` asks for derivatives of {task.display_name}: "
            f'{reason} Take "iso_line", "cma_me" or "cma_mae", which ask for none.'
        )


def check_statistics(task: AbstractTask[Any]) -> None:
    """Refuse a task that normalises observations.

    **Raises:** `ValueError` with the remedy.
    """
    if obs_stats_of(task) is not None:
        raise ValueError(
            f"`task` of `QDTrainer` must be without `normalize_obs`, but got "
            f"{task.display_name} with it: an elite's fitness and descriptor would no "
            "longer be its own once the statistics change. Normalise inside of the "
            "policy, by fixed numbers."
        )
