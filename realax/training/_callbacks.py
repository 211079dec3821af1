"""The callbacks of a trainer: observers, and rules that end a run."""

from collections.abc import Iterator
from typing import Any, final

import equinox as eqx
import jax
import numpy as np

from .._arguments import arguments
from .._errors import describe
from ..tasks._on_host import outlined
from .observers import AbstractObserver, Logger, ProgressBar, check_observer
from .stopping import AbstractStopping


type Callback = AbstractObserver | AbstractStopping[Any]
type Many = tuple[Callback, ...] | list[Callback]
# The values that a trainer accepts as its `callbacks`.
type CallbacksLike = Callback | Many | Callbacks | None


def as_callbacks(phrase: str, value: Any) -> tuple[Callback, ...]:
    """Return one observer or rule, or a tuple or list of them, as a tuple.

    `None` stands for an empty tuple.

    **Raises:** `TypeError`, whose message begins with `phrase`, for anything else.
    """
    if value is None:
        return ()
    if isinstance(value, AbstractObserver | AbstractStopping):
        return (value,)
    expected = f"{phrase} must be observers, one or a tuple of them"
    if not isinstance(value, tuple | list | Callbacks):
        raise TypeError(
            f"{expected}, but got {describe(value)}. For example: "
            "`(ProgressBar(), EarlyStopping(patience=100))`."
        )
    many: list[Any] = list(value)
    for i, one in enumerate(many):
        if not isinstance(one, AbstractObserver | AbstractStopping):
            raise TypeError(
                f"{expected}, but got {describe(one)} as number {i + 1}. Make it a "
                "subclass of `AbstractObserver`, and pass an instance."
            )
    return tuple(many)


@final
class Callbacks(eqx.Module):
    """The callbacks of a trainer.

    A custom trainer declares its field as
    `callbacks: rx.Callbacks = eqx.field(converter=rx.Callbacks, default=())`.

    - `observers`: the observers in the order in which they are called. Those that save
        are last, so that no log ends before a checkpoint.
    - `rules`: the rules that end a run.

    **Arguments:**

    - `callbacks`: an observer or a rule, or a tuple or list of them.
    - `more`: further ones; `None` is ignored.

    **Raises:** `TypeError` for anything else, `ValueError` for duplicates.
    """

    observers: tuple[AbstractObserver, ...]
    rules: tuple[AbstractStopping[Any], ...]

    @arguments(callbacks=as_callbacks)
    def __init__(self, callbacks: CallbacksLike = (), *more: Callback | None):
        found = list[Callback]()
        for callback in (*as_callbacks("`callbacks`", callbacks), *more):
            if callback is None:
                continue
            if any(callback is other for other in found):
                raise ValueError(
                    f"the same `{type(callback).__name__}` is there twice, among "
                    "`callbacks` or also as `logger`. Pass each observer once."
                )
            found.append(callback)
        observers = [one for one in found if isinstance(one, AbstractObserver)]
        for one in observers:
            check_observer(one)
        self.observers = tuple(sorted(observers, key=lambda observer: observer.saves))
        self.rules = tuple(one for one in found if isinstance(one, AbstractStopping))

    @classmethod
    def of(
        cls, callbacks: CallbacksLike, logger: Logger | None, progress_bar: bool
    ) -> "Callbacks":
        """Return the callbacks of a trainer that takes two of them by name.

        **Arguments:**

        - `callbacks`: an observer or a rule, or a tuple or list of them.
        - `logger`: one more observer.
        - `progress_bar`: whether to add a `ProgressBar`.
        """
        return cls(callbacks, logger, ProgressBar() if progress_bar else None)

    def __iter__(self) -> Iterator[Callback]:
        return iter((*self.observers, *self.rules))

    def __getitem__(self, index: int) -> Callback:
        return (*self.observers, *self.rules)[index]

    def __len__(self) -> int:
        return len(self.observers) + len(self.rules)


def plain(trainer: Any, *, rules: bool = False) -> Any:
    """Return the trainer as it is compiled.

    It has no observers, because new ones would compile the same run again. Its
    `train_steps` is an array, so that one compilation suffices for every length. Of a
    task on the host there is an outline.

    **Arguments:**

    - `trainer`: the trainer.
    - `rules`: whether it keeps its stopping rules, as its steps need them.
    """
    steps = trainer.train_steps
    if not isinstance(steps, jax.Array):  # traced, if the trainer was plain already
        steps = np.int32(min(int(steps), np.iinfo(np.int32).max))
    kept = Callbacks(list(trainer.callbacks.rules) if rules else ())
    parts = lambda t: (t.train_steps, t.callbacks)
    return outlined(eqx.tree_at(parts, trainer, (steps, kept)))
