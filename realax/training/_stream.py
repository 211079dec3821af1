"""The batches of a stream as the data of a run."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, final

import jax
import numpy as np
from jaxtyping import Array, Int

from .._check import no_type_check
from .._types import Tree
from ._batches import MAX_BATCHES, Group, copy_batch
from ._feed import AbstractData, AbstractFeed
from ._pace import Pace


_END = object()
_EMPTY = (
    "`batches` must yield at least one batch, but it is empty. A generator is empty "
    "after its first use: make a new one for each run."
)


@final
class _Batches(AbstractData):
    """The stacked batches of a group, of which `start` is the first unused one."""

    tree: Tree
    start: Int[Array, ""] | np.int32

    def of_step(self, i: Any) -> Tree:
        return jax.tree.map(lambda leaf: leaf[self.start + i], self.tree)


@final
class Stream(AbstractFeed):
    """The batches of an iterable, which are fetched while earlier steps are computed.

    They are fetched in the thread that trains: jax computes in threads of its own, and
    a source that computes with jax has the settings of the caller.

    **Arguments:**

    - `batches`: the iterable.
    - `place`: puts a batch on the devices of the run.
    - `one_by_one`: whether a batch is fetched from an iterator only when it is needed.
    """

    needs_host = True
    under_trace = (
        "where batches cannot be fetched. Stream outside of them, or pass all data at "
        "once: `trainer.train(state, key, data)`."
    )
    _pace: Pace
    _batches: Iterator[Tree]

    def __init__(
        self,
        batches: Iterable[Tree],
        place: Callable[[Tree], Tree],
        one_by_one: bool,
    ):
        self._source = batches
        self._place = place
        self._one_by_one = one_by_one
        self._groups = collections.deque[Group]()
        self._data: Any = None
        self._remaining = 0
        self._skipped: Any = _END
        self._error: BaseException | None = None

    def prepare(self, pace: Pace, skip: int, steps: int) -> None:
        """Skip the batches that a restored run has used, and fetch the next one.

        **Raises:** `ValueError` if there is none.
        """
        self._pace = pace
        self._batches = iter(self._source)
        # Nobody else sees the iterator of an iterable.
        self._one_by_one = self._one_by_one and self._batches is self._source
        with pace.user_code():
            for batch in itertools.islice(self._batches, skip):
                self._skipped = batch
        self._remaining = steps
        if steps > 0 and not self.ready() and skip == 0:
            raise ValueError(_EMPTY)

    @no_type_check
    def data(self, state: Any) -> _Batches:
        """Return the next batches on the device, stacked to a fixed number."""
        del state
        if self._data is None:
            self._data = self._place(jax.device_put(self._groups[0].close()))
        return _Batches(self._data, np.int32(self._groups[0].used))

    @property
    @no_type_check
    def left(self) -> int:
        """The number of unused batches in the result of `data`."""
        group = self._groups[0]
        return group.size - group.used

    @no_type_check
    def ready(self) -> bool:
        """Fetch a batch if there is none, and return whether there is one now.

        **Raises:** the error of the source, once the batches before it are used;
        `KeyboardInterrupt` at once.
        """
        if isinstance(self._error, Exception) and self._groups:
            return True
        if self._error is not None:
            raise self._error
        return bool(self._groups) or self._fetch()

    @no_type_check
    def used(self, steps: int) -> None:
        """Record that a chunk used `steps` batches."""
        group = self._groups[0]
        group.used += steps
        if group.used == group.size:
            self._groups.popleft()
            self._data = None

    @no_type_check
    def look_ahead(self, state: Any, busy: Callable[[], bool]) -> None:
        """Fetch more batches while the device is busy, at most for one full call."""
        del state
        while not self._one_by_one and self._error is None:
            may_gather = self._pace.may_gather(busy)
            full = len(self._groups) > 1 and not self._groups[-1].has_room
            if full or not may_gather:
                return
            try:
                found = self._fetch()
            except BaseException as error:
                # Raised later, so that the steps in progress are shown and saved first.
                self._error = error
                return
            if not found:
                return

    def example(self, state: Any) -> Tree:
        """Return a batch, for a restored run that has no steps left."""
        del state
        if self._skipped is _END:
            self._skipped = next(self._batches, _END)
        if self._skipped is _END:
            return None
        return jax.device_put(copy_batch(self._skipped))

    @no_type_check
    def _fetch(self) -> bool:
        if self._remaining == 0:
            return False
        with self._pace.user_code():
            batch = next(self._batches, _END)
        if batch is _END:
            self._remaining = 0
            return False
        self._remaining -= 1
        group = self._groups[-1] if self._groups else None
        if group is None or not group.add(batch):
            self._groups.append(Group(batch, 1 if self._one_by_one else MAX_BATCHES))
        return True


def peek(batches: Iterable[Tree]) -> tuple[Tree, Iterable[Tree]]:
    """Return a copy of the first batch, and an iterable of all batches.

    **Raises:** `ValueError` if there is none.
    """
    source = iter(batches)
    first: Any = next(source, _END)
    if first is _END:
        raise ValueError(_EMPTY)
    whole = itertools.chain([first], source)
    return copy_batch(first), whole if source is batches else _Once(whole)


class _Once:
    """An iterable that is not its own iterator, like the source of its batches."""

    def __init__(self, source: Iterator[Tree]):
        self._source = source

    def __iter__(self) -> Iterator[Tree]:
        return iter(self._source)
