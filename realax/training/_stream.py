"""The batches of a stream as the data of a run."""

import collections
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, final

import jax
import numpy as np

from .._check import no_type_check
from .._types import Tree
from ._batches import MOST, Group, copied
from ._feed import AbstractFeed, Data


# For so many seconds batches are gathered even if the device has nothing to do: of a
# slow source too, several share the cost of a call.
_GATHERING = 0.05
_END = object()
_EMPTY = (
    "`batches` must yield at least one batch, but it is empty. A generator that was "
    "gone through once is: make a new one for each run."
)


@final
class Stream(AbstractFeed):
    """The batches of an iterable, fetched while the steps before are computed.

    They are fetched in the thread that trains: jax's own computations run beside it,
    and a source that computes with jax has the settings of the caller.

    **Arguments:**

    - `batches`: the iterable.
    - `waiting`: opens a context in which the user's own code runs and may be
        interrupted.
    - `place`: puts a batch on the devices of the run.
    - `careful`: whether no batch may be taken before it is certain to be used.
    """

    def __init__(
        self,
        batches: Iterable[Tree],
        waiting: Callable[[], Any],
        place: Callable[[Tree], Tree],
        careful: bool,
    ):
        self._batches = iter(batches)
        self._careful = careful and self._batches is batches
        self._waiting = waiting
        self._place = place
        self._groups = collections.deque[Group]()
        self._data: Any = None
        self._wanted = 0
        self._skipped: Any = _END
        self._slow = False
        self._error: BaseException | None = None

    def begin(self, skip: int, steps: int) -> None:
        """Leave out the batches that a restored run had used, and fetch the next one.

        **Raises:** `ValueError` where there is none.
        """
        with self._waiting():
            for batch in itertools.islice(self._batches, skip):
                self._skipped = batch
        self._wanted = steps
        if steps > 0 and not self.ready() and skip == 0:
            raise ValueError(_EMPTY)

    @no_type_check
    def data(self) -> Data:
        """Return the next batches on the device, stacked to a fixed number."""
        if self._data is None:
            self._data = self._place(jax.device_put(self._groups[0].close()))
        return Data(self._data, np.int32(self._groups[0].used))

    @property
    @no_type_check
    def left(self) -> int:
        """The number of batches in `data` that were not used."""
        group = self._groups[0]
        return group.size - group.used

    @no_type_check
    def ready(self) -> bool:
        """Fetch a batch if there is none, and return whether there is one now.

        **Raises:** the error that the source raised when it was last asked, once the
        batches before it are used; Ctrl-C at once.
        """
        if isinstance(self._error, Exception) and self._groups:
            return True
        if self._error is not None:
            raise self._error
        return bool(self._groups) or self._fetch()

    @no_type_check
    def used(self, steps: int) -> None:
        """Take note that a chunk used `steps` batches."""
        group = self._groups[0]
        group.used += steps
        if group.used == group.size:
            self._groups.popleft()
            self._data = None

    @no_type_check
    def look_ahead(self, busy: Callable[[], bool]) -> None:
        """Fetch more batches while the device is busy, at most for one full call."""
        began = time.perf_counter()
        while not self._careful and self._error is None:
            gathering = not self._slow and time.perf_counter() - began < _GATHERING
            full = len(self._groups) > 1 and not self._groups[-1].room
            if full or not (gathering or busy()):
                return
            asked = time.perf_counter()
            try:
                found = self._fetch()
            except BaseException as error:
                # What the device computes meanwhile is to be seen and saved first.
                self._error = error
                return
            self._slow = time.perf_counter() - asked > _GATHERING
            if not found:
                return

    def example(self) -> Tree:
        """Return a batch, for a restored run that has no step left to make."""
        if self._skipped is _END:
            self._skipped = next(self._batches, _END)
        return None if self._skipped is _END else jax.device_put(copied(self._skipped))

    @no_type_check
    def _fetch(self) -> bool:
        if self._wanted == 0:
            return False
        with self._waiting():
            batch = next(self._batches, _END)
        if batch is _END:
            self._wanted = 0
            return False
        self._wanted -= 1
        group = self._groups[-1] if self._groups else None
        if group is None or not group.add(batch):
            self._groups.append(Group(batch, 1 if self._careful else MOST))
        return True


def peeked(batches: Iterable[Tree]) -> tuple[Tree, Iterable[Tree]]:
    """Return the first batch, and batches that begin with it.

    **Raises:** `ValueError` where there is none.
    """
    source = iter(batches)
    first: Any = next(source, _END)
    if first is _END:
        raise ValueError(_EMPTY)
    whole = itertools.chain([first], source)
    return copied(first), whole if source is batches else _Once(whole)


class _Once:
    """An iterable that is not its own iterator, as the source that it continues."""

    def __init__(self, source: Iterator[Tree]):
        self._source = source

    def __iter__(self) -> Iterator[Tree]:
        return iter(self._source)
