"""Checks of the arguments of gradient training."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ..._arguments import Check, function as a_function, keywords
from ..._callables import name_of
from ...tasks import AbstractTask
from ...tasks._observing import obs_stats_of
from .._optimizers import optimizer
from .._options import RUN_CHECKS
from ._rate import learning_rate


# Checks of the arguments that `OptaxTrainer` and `optimize` share.
CHECKS: dict[str, Check] = {
    "optimizer": optimizer,
    "loss_fn": a_function("(params, key, data) -> (loss, aux)"),
    "learning_rate": learning_rate,
    "opt_kws": keywords,
    **RUN_CHECKS,
}


def epochs_by_either_name[**A, R](function: Callable[A, R]) -> Callable[A, R]:
    """Let `__init__` take `train_steps`, the name of the field, for `epochs`.

    `dataclasses.replace` passes all fields by their names, and what changes: so
    `epochs` wins.
    """

    @functools.wraps(function)
    def called(*args: A.args, **kwargs: A.kwargs) -> R:
        named: dict[str, Any] = kwargs
        if "train_steps" in named:
            steps = named.pop("train_steps")
            if len(args) < 2:  # besides `self`
                named.setdefault("epochs", steps)
        return function(*args, **named)  # pyright: ignore[reportCallIssue]

    return called


def check_loss(loss_fn: AbstractTask[Any]) -> None:
    """Refuse tasks that have no useful gradient.

    **Raises:** `ValueError`.
    """
    if obs_stats_of(loss_fn) is not None:
        raise ValueError(
            "`loss_fn` has `normalize_obs`, which gathers statistics over the "
            "generations of evolution only. Normalise inside the policy instead."
        )
    if (reason := loss_fn.obstacle) is not None:
        raise ValueError(
            f"`loss_fn`, {loss_fn.display_name}, cannot be trained by gradient: "
            f"{reason} Train it by evolution, `EvosaxTrainer` or `evolve`, or by "
            "reinforcement learning."
        )


def check_initializer(initializer: Callable[..., Any]) -> None:
    """Refuse a function that does not take one key. **Raises:** `TypeError`."""
    try:
        inspect.signature(initializer).bind(None)
    except TypeError as error:
        raise TypeError(
            "`initializer` must have the signature (key) -> parameters, but "
            f"{name_of(initializer)} cannot be called so ({error}). To start from "
            "parameters that exist already, call `optimize`."
        ) from error
    except ValueError:  # some builtins have no signature to look at
        return
