"""The learning rate of gradient training: a number, a schedule, or the default."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import ArrayLike

from ..._arguments import number
from ..._errors import describe
from .._checks import check_rate
from .._optimizers import Optimizer, needs_rate


type LearningRate = ArrayLike | Callable[[Any], Any]

_DEFAULT = 1e-3


def learning_rate(phrase: str, value: Any) -> Any:
    """Check a number that is not negative, a function of the step, or `None`."""
    return value if value is None or callable(value) else number(0.0)(phrase, value)


def rate_of(optimizer: str | Optimizer, rate: LearningRate | None) -> Any:
    """Return the rate as a field: an array leaf, a schedule, or `None` for the default.

    **Raises:** `ValueError` for a rate beside an instance, which has its own.
    """
    if not isinstance(optimizer, str):
        if rate is not None:
            raise ValueError(
                "`learning_rate` is for an optimiser given by name, but "
                f"got {describe(rate)} beside an instance, which has its own. Leave it "
                "out, or name the optimiser."
            )
        return None
    if rate is None:
        rate = _DEFAULT if needs_rate(optimizer) else None
    if rate is None or callable(rate):
        return rate
    return jnp.asarray(rate, jnp.result_type(float))


def rate_at(rate: Any, step: Any) -> Any:
    """Return the rate of a step: a number, or `None` for the optimiser's own."""
    return check_rate("`learning_rate`", rate(step)) if callable(rate) else rate
