"""The data of each step: the same for all, or the batches of a stream."""

import collections
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from .._check import no_type_check
from .._errors import describe
from .._types import Tree


# A call of the device costs some milliseconds on the host. So many batches share one,
# if they fit into so many bytes.
_MOST = 128
_MAX_BYTES = 2**22
# For so many seconds batches are gathered even if the device has nothing to do: of a
# slow source too, several share the cost of a call.
_GATHERING = 0.05
_END = object()


class Constant:
    """The same data in each step."""

    stacked = False
    start = 0
    left = 2**31

    def __init__(self, data: Tree):
        self.data = data

    def begin(self, skip: int, steps: int) -> None:
        """Nothing is to be fetched."""

    def ready(self) -> bool:
        """Whether there are data for another step."""
        return True

    def made(self, steps: int) -> None:
        """Nothing is used up."""

    def look_ahead(self, busy: Callable[[], bool]) -> None:
        """Nothing is to be fetched."""

    def example(self) -> Tree:
        """Data for their shapes."""
        return self.data


class Stream:
    """The batches of an iterable, fetched while the steps before are computed.

    All is done in the thread that trains: jax's own computations run beside it, and
    what a source computes with jax has the settings of the caller.

    **Arguments:**

    - `batches`: the iterable.
    - `waiting`: opens a context in which the user's own code runs, and may be broken
        off.
    - `place`: puts a batch on the devices of the run.
    - `careful`: whether no batch may be taken before it is certain to be used.
    """

    stacked = True

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
        self._groups = collections.deque[_Group]()
        self._data: Any = None
        self._wanted = 0
        self._skipped: Any = _END
        self._slow = False
        self._error: BaseException | None = None

    def begin(self, skip: int, steps: int) -> None:
        """Leave out what a restored run had taken, and fetch the first batch.

        **Raises:** `ValueError` where there is none.
        """
        with self._waiting():
            for batch in itertools.islice(self._batches, skip):
                self._skipped = batch
        self._wanted = steps
        if steps > 0 and not self.ready() and skip == 0:
            raise ValueError(
                "`batches` must yield at least one batch, but it is empty. A generator "
                "that was gone through once is: make a new one for each run."
            )

    @property
    @no_type_check
    def data(self) -> Tree:
        """The batches that come next, on the device, stacked to a fixed number."""
        if self._data is None:
            self._data = self._place(jax.device_put(self._groups[0].close()))
        return self._data

    @property
    @no_type_check
    def start(self) -> int:
        """Which of `data` is the first that was not used."""
        return self._groups[0].used

    @property
    @no_type_check
    def left(self) -> int:
        """How many of `data` were not used."""
        group = self._groups[0]
        return group.size - group.used

    @no_type_check
    def ready(self) -> bool:
        """Fetch a batch, if there is none. Whether there is one now.

        **Raises:** what the source raised when it was last asked, once the batches that
        came before are used; Ctrl-C at once.
        """
        if isinstance(self._error, Exception) and self._groups:
            return True
        if self._error is not None:
            raise self._error
        return bool(self._groups) or self._fetch()

    @no_type_check
    def made(self, steps: int) -> None:
        """Some of `data` were used."""
        group = self._groups[0]
        group.used += steps
        if group.used == group.size:
            self._groups.popleft()
            self._data = None

    @no_type_check
    def look_ahead(self, busy: Callable[[], bool]) -> None:
        """Fetch more while the device is busy: at most a full call's worth."""
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
        """A batch for its shapes, where a restored run has no step left to make."""
        if self._skipped is _END:
            self._skipped = next(self._batches, _END)
        return None if self._skipped is _END else jax.device_put(_copied(self._skipped))

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
            self._groups.append(_Group(batch, 1 if self._careful else _MOST))
        return True


class _Group:
    """Batches of the same shapes, written one after another into one array for each."""

    def __init__(self, batch: Tree, most: int):
        leaves, self._treedef = jax.tree_util.tree_flatten_with_path(batch)
        self.size, self.used = 1, 0
        self._device = any(map(_stays, leaves))
        if self._device:
            self._rows: list[Any] = [
                leaf if isinstance(leaf, jax.Array) else _array(path, leaf)
                for path, leaf in leaves
            ]
            self._most = 1
            return
        arrays = [_array(path, leaf) for path, leaf in leaves]
        dtypes = [jax.dtypes.canonicalize_dtype(array.dtype) for array in arrays]
        size = sum(array.nbytes for array in arrays)
        self._most = max(1, min(most, _MAX_BYTES // max(1, size)))
        # Not zeros: pages that no batch is written to cost nothing.
        self._rows = [
            np.empty((self._most, *array.shape), dtype)
            for array, dtype in zip(arrays, dtypes, strict=True)
        ]
        for row, array in zip(self._rows, arrays, strict=True):
            row[0] = array

    @property
    @no_type_check
    def room(self) -> bool:
        """Whether another batch fits in."""
        return self.size < self._most

    @no_type_check
    def add(self, batch: Tree) -> bool:
        """Take one more batch in, if it fits."""
        if not self.room:
            return False
        leaves, treedef = jax.tree_util.tree_flatten_with_path(batch)
        if treedef != self._treedef or any(map(_stays, leaves)):
            return False
        arrays = [_array(path, leaf) for path, leaf in leaves]
        for row, array in zip(self._rows, arrays, strict=True):
            dtype = jax.dtypes.canonicalize_dtype(array.dtype)
            if row.shape[1:] != array.shape or row.dtype != dtype:
                return False
        for row, array in zip(self._rows, arrays, strict=True):
            row[self.size] = array
        self.size += 1
        return True

    def close(self) -> Tree:
        """The batches, with a leading axis of fixed length. No more are taken in."""
        self._most = 0
        rows = [row[None] for row in self._rows] if self._device else self._rows
        return jax.tree.unflatten(self._treedef, rows)


@no_type_check
def _stays(entry: tuple[Any, Any]) -> bool:
    """Whether an array is on an accelerator already, or no numbers of numpy's."""
    _, leaf = entry
    if not isinstance(leaf, jax.Array):
        return False
    keys = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return keys or next(iter(leaf.devices())).platform != "cpu"


def _copied(batch: Tree) -> Tree:
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x if isinstance(x, jax.Array) else np.array(_array(path, x)),
        batch,
    )


@no_type_check
def _array(path: Any, leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    if array.dtype.kind not in "biufcV":
        raise TypeError(
            "`batches` must yield trees of arrays and numbers, but got "
            f"{describe(leaf)} at `{jax.tree_util.keystr(path) or '(root)'}`."
        )
    return array
