"""Checks of the arguments of evolution."""

from typing import Any

from ..._arguments import Check, function, keywords, whole
from ...policies import NormalizedPolicy
from ...tasks import AbstractTask
from ...tasks._observing import obs_stats_of
from .._devices import device_mesh
from .._options import RUN_CHECKS
from ._algorithm import algorithm
from ._shaping import shaper


# Checks of the arguments that `EvosaxTrainer` and `evolve` share.
CHECKS: dict[str, Check] = {
    "strategy": algorithm,
    "task": function("(params, key, data) -> (fitness, aux)"),
    "fitness_shaper": shaper,
    "popsize": whole(),
    "eval_reps": whole(),
    "n_devices": whole(),
    "es_kws": keywords,
    **RUN_CHECKS,
}


def check_statistics(params_like: Any, task: AbstractTask[Any]) -> None:
    """Refuse statistics of observations that a task would not use.

    **Raises:** `ValueError`.
    """
    if isinstance(params_like, NormalizedPolicy) and obs_stats_of(task) is None:
        raise ValueError(
            "`params_like` is a `NormalizedPolicy`, whose statistics are not "
            "to be evolved. Give the task `normalize_obs=True` to go on with "
            "them, or evolve `params_like.policy`."
        )


def check_devices(popsize: int, n_devices: int) -> None:
    """Refuse more devices than there are, and populations that they cannot share.

    **Raises:** `ValueError`.
    """
    if n_devices > 1:
        device_mesh(n_devices)
    if popsize % n_devices:
        below = popsize - popsize % n_devices
        raise ValueError(
            f"`popsize` must be a multiple of `n_devices={n_devices}`, but got "
            f"{popsize}. The nearest are {below or n_devices} and {below + n_devices}."
        )
