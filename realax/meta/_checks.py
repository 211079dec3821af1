"""Checks of trainers that run inside of others."""

from typing import Any


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
