"""The numbers that observers measure after a chunk."""

import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from .._check import no_type_check
from .._errors import describe
from .observers import Measured


@no_type_check
def measured_by(
    measures: Iterable[tuple[str, Callable[..., Any]]],
    steps: np.ndarray,
    state: Any,
    lanes: int,
) -> dict[str, Measured]:
    """Return what all observers measure at the last of `steps`, by name.

    **Arguments:**

    - `measures`: the class of each observer, and its `measure`.
    - `steps`: the numbers of the steps of a chunk.
    - `state`: the state after the last of them.
    - `lanes`: the number of runs side by side, or 0. A number can then be an array of
        one for each.

    **Raises:** `TypeError` for anything but numbers by name, `ValueError` for a name
    that two observers use.
    """
    found, owners = dict[str, Measured](), dict[str, str]()
    for kind, measure in measures:
        owner = f"`{kind}.measure`"
        result: Any = measure(steps, state)
        if not isinstance(result, Mapping):
            raise TypeError(
                f"{owner} must return numbers by name, but got {describe(result)}. End "
                "it with `return {}` where there is nothing to log."
            )
        for name, value in result.items():
            if name in owners:
                raise ValueError(
                    f"{owners[name]} and {owner} both return {name!r}, which a log can "
                    "hold only once for a step. Give one of them another name, such as "
                    '`Evaluator(task, name="test_return")`.'
                )
            owners[name] = owner
            expected = f"{owner} must return a number at {name!r}"
            found[name] = _number(expected, value, lanes)
    return found


def _number(expected: str, value: Any, lanes: int) -> Measured:
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, np.ndarray | jax.Array):
        if value.shape == ():
            return float(value)
        if lanes and value.shape == (lanes,):
            return np.asarray(value)
    raise TypeError(f"{expected}, but got {describe(value)}. Reduce it: `x.mean()`.")
