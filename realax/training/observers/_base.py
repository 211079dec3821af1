"""The contract of observers."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex

import equinox as eqx
import numpy as np

from ..._arguments import optional, whole
from ..._check import no_type_check
from ..._types import Tree
from ._run import Measured, Run


class Handle[T]:
    """A mutable box for a resource of an observer, such as a bar, a file or a client.

    Keep it in a static field:
    `handle: Handle = eqx.field(static=True, default_factory=Handle)`.
    """

    value: T | None

    def __init__(self, value: T | None = None):
        self.value = value

    def take(self) -> T | None:
        """Empty the handle and return its value."""
        value, self.value = self.value, None
        return value


if TYPE_CHECKING:
    type _Number = SupportsIndex | float | None
else:
    _Number = Any  # at run time the check below has the better message


def _every(value: _Number) -> int | None:
    return optional(whole())("`every`", value)


# `(state, metrics) -> tree of arrays`, compiled into each step.
type Selection = Callable[[Any, Any], Tree]


class AbstractObserver(eqx.Module):
    """Watches a run on the host, between chunks of compiled steps.

    All methods have a default that does nothing, so that an observer defines only those
    that it needs. None of them is compiled: the computation in each step is another
    object, which `select` returns. Values that change during a run belong in a
    `Handle`.

    An observer never changes what a run computes; `restore` only changes where the run
    starts.

    In a run on several processes the first one alone calls these methods, except for
    `select`, which each of them calls: its result must not depend on another method.

    **Arguments:**

    - `every`: chunks end at multiples of this many steps; if `None`, anywhere.

    **Raises:** `TypeError` or `ValueError` if `every` is no whole number or is below 1.
    """

    every: int | None = eqx.field(converter=_every, default=None, kw_only=True)
    # True for an observer that saves states. It restores one before the others start,
    # and is called after them, so that no log ends before a checkpoint.
    saves: ClassVar[bool] = False

    @property
    def since(self) -> int | None:
        """The step at which a restored run originally began; `None` for a new run."""
        return None

    def claim(self) -> None:
        """Claim what a run writes, before anything is computed for it.

        Raise an error to refuse the run: if its files belong to another run, or cannot
        be written. A run calls this method of the observers that save first.
        """

    def release(self) -> None:
        """Release what `claim` claimed, unless `on_end` has done so.

        It is called once after each `claim` that raised no error, in the end.
        """

    def restore(self, run: Run, state: Any) -> Any:
        """Return the state from which to start.

        It is called once, before any observer starts, if the class sets `saves`.

        **Arguments:**

        - `run`: the run that is about to begin.
        - `state`: the state from which it starts otherwise.
        """
        del run
        return state

    def on_start(self, run: Run, state: Any) -> None:
        """Prepare for the first step.

        **Arguments:**

        - `run`: the run that is about to begin.
        - `state`: the state from which it starts.
        """
        del run, state

    def select(self, run: Run) -> Selection | None:
        """Return the function that is computed in each step for `on_chunk`, or `None`.

        It is called once, after `on_start`. The result `(state, metrics) -> tree` is
        compiled into the step, with the state after the step and its metrics. Return a
        function of a Python module, or an `equinox.Module` with a `__call__`: they are
        compared by value, while a new lambda is compiled anew in each run.
        """
        del run
        return None

    @no_type_check
    def measure(self, steps: np.ndarray, state: Any) -> Mapping[str, Measured]:
        """Return numbers about the last step of a chunk that belong in logs, by name.

        It is called on all observers before the `on_chunk` of any of them, which find
        the numbers in `run.measured`. Loggers add them to the row of that step. Of runs
        side by side, a number can be an array of one for each of them.

        **Arguments:**

        - `steps`: as for `on_chunk`.
        - `state`: the state after the chunk's last step.
        """
        del steps, state
        return {}

    def on_chunk(self, steps: np.ndarray, selected: Tree, state: Any) -> None:
        """Process a chunk of steps.

        **Arguments:**

        - `steps`: the values of `state.step` after each step of the chunk: 1 after a
            run's first.
        - `selected`: the results of the function from `select`: numpy arrays with a
            leading axis of `len(steps)`.
        - `state`: the state after the chunk's last step. The next chunk writes over its
            arrays that `AbstractState.reusable` returns: copy them to keep them.
        """
        del steps, selected, state

    def on_end(self, state: Any, error: BaseException | None) -> None:
        """Finish, after a complete run and after one that an error ended.

        **Arguments:**

        - `state`: the last state that all observers have seen. If a step raised the
            error, its arrays that `AbstractState.reusable` returns are lost.
        - `error`: the error that ended the run, such as `KeyboardInterrupt`, which is
            raised again afterwards; `None` for a complete run.
        """
        del state, error


def check_observer(observer: AbstractObserver) -> None:
    """Refuse an observer whose `restore` would never be called.

    **Raises:** `TypeError`.
    """
    kind = type(observer)
    if kind.restore is not AbstractObserver.restore and not observer.saves:
        raise TypeError(
            f"`{kind.__name__}.restore` is only called on observers that save, but "
            f"got `{kind.__name__}.saves = False`. Write `saves = True` in the class."
        )
