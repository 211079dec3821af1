"""A trainer that runs inside of another one."""

from collections.abc import Callable
from typing import Any, SupportsIndex, cast

import numpy as np

from .._errors import describe
from .._trees import with_fields
from ..training._callbacks import plain


def check_inner(name: str, trainer: Any) -> None:
    """Refuse a trainer with observers, which act on the host between its steps.

    **Arguments:**

    - `name`: what it is given to, for messages.
    - `trainer`: the trainer.

    **Raises:** `ValueError` that lists them.
    """
    observers = trainer.callbacks.observers
    if observers:
        names = ", ".join(type(one).__name__ for one in observers)
        raise ValueError(
            f"`trainer` of `{name}` must be without observers, because its steps are "
            f"compiled into those around it, but got a {type(trainer).__name__} with "
            f"{names}. Attach them to the outermost trainer, which shows them the "
            "metrics of all runs inside."
        )


def check_no_rules(name: str, trainer: Any, remedy: str) -> None:
    """Refuse a trainer with stopping rules, which would not be followed.

    **Arguments:**

    - `name`, `trainer`: as for `check_inner`.
    - `remedy`: a sentence that says where to pass them.

    **Raises:** `ValueError`.
    """
    if rules := trainer.callbacks.rules:
        raise ValueError(
            f"`trainer` of `{name}` must be without stopping rules, but got "
            f"{describe(rules[0])}. {remedy}"
        )


def inner(name: str, trainer: Any) -> Any:
    """Return a trainer as it is kept inside of another one.

    Its own number of steps is not used, for that of the outer one is its too.

    **Arguments:**

    - `name`: that of the outer trainer, for messages.
    - `trainer`: the trainer.

    **Raises:** `ValueError` for a trainer with observers.
    """
    check_inner(name, trainer)
    return with_fields(plain(trainer), train_steps=np.int32(1))


def steps_of(train_steps: SupportsIndex | None, trainer: Any) -> int:
    """Return the number of steps of an outer trainer, by default those of the inner."""
    return cast(int, trainer.train_steps if train_steps is None else train_steps)


def record_of(record: Any, trainer: Any, lifted: Callable[[Any], Any]) -> Any:
    """Return what an outer trainer records, by default what the inner one does.

    **Arguments:**

    - `record`: the outer trainer's argument.
    - `trainer`: the inner trainer.
    - `lifted`: makes of its function one of the outer trainer's state.
    """
    if record is not None or trainer.record is None:
        return record
    return lifted(trainer.record)
