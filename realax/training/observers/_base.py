"""The contract of what watches a run."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex

import equinox as eqx
import numpy as np

from ..._arguments import optional, whole
from ..._types import Tree
from ._run import Run


class Handle[T]:
    """A mutable place for what an observer opens: a bar, a file, a client.

    Hold one in a static field:
    `handle: Handle = eqx.field(static=True, default_factory=Handle)`.
    """

    value: T | None

    def __init__(self, value: T | None = None):
        self.value = value

    def take(self) -> T | None:
        """Empty the handle and return what was in it."""
        value, self.value = self.value, None
        return value


if TYPE_CHECKING:
    type _Number = SupportsIndex | float | None
else:
    _Number = Any  # at run time the check below says better what is wrong


def _every(value: _Number) -> int | None:
    return optional(whole())("`every`", value)


# `(state, metrics) -> tree of arrays`, compiled into each step.
type Selection = Callable[[Any, Any], Tree]


class AbstractObserver(eqx.Module):
    """A watcher of a run on the host, between chunks of compiled steps.

    All methods have a default that does nothing, so that an observer writes only those
    that it needs. None of them is compiled: what is to be computed in each step is
    another object, which `select` returns. Values that change during a run belong into
    a `Handle`.

    An observer never changes what a run computes; `restore` only lets it begin later.

    **Arguments:**

    - `every`: chunks end at multiples of this many steps; `None`: anywhere.

    **Raises:** `TypeError` or `ValueError` where `every` is no number, or below 1.
    """

    every: int | None = eqx.field(converter=_every, default=None, kw_only=True)
    # Whether it saves states. Such an observer restores one before any other starts,
    # and is called after the others, so that no log ends before a checkpoint.
    saves: ClassVar[bool] = False

    @property
    def since(self) -> int | None:
        """The step at which a restored run had once begun; `None` for a new run."""
        return None

    def restore(self, run: Run, state: Any) -> Any:
        """Return the state from which to start; only asked of an observer that saves.

        It is called once, before any observer starts.

        **Arguments:**

        - `run`: the run that is about to begin.
        - `state`: the state from which it would start.
        """
        del run
        return state

    def on_start(self, run: Run, state: Any) -> None:
        """Act before the first step.

        **Arguments:**

        - `run`: the run that is about to begin.
        - `state`: the state from which it starts.
        """
        del run, state

    def select(self, run: Run) -> Selection | None:
        """Return what is computed of each step for `on_chunk`; `None` for nothing.

        It is called once, after `on_start`. The result `(state, metrics) -> tree` is
        compiled into the step, with the state after the step and its metrics. Return a
        function of a Python module, or an `equinox.Module` with a `__call__`: they are
        compared by value, while a new lambda is compiled anew in each run.
        """
        del run
        return None

    def on_chunk(self, steps: np.ndarray, selected: Tree, state: Any) -> None:
        """Act after a chunk of steps.

        **Arguments:**

        - `steps`: the values of `state.step` after each step of the chunk: 1 after a
            run's first.
        - `selected`: the results of what `select` returned: numpy arrays with a leading
            axis of `len(steps)`.
        - `state`: the state after the chunk's last step.
        """
        del steps, selected, state

    def on_end(self, state: Any, error: BaseException | None) -> None:
        """Act at the end, also of a run that was broken off.

        **Arguments:**

        - `state`: the last state that all observers have seen.
        - `error`: what broke the run, for example `KeyboardInterrupt`; else `None`. It
            is raised again afterwards.
        """
        del state, error
