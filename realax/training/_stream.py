"""Batches from any iterator, fetched while the step before is computed."""

# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from .._errors import describe
from .._types import Tree


END = object()


class Feed:
    """The batches of a stream, the next one fetched while a step is computed."""

    def __init__(self, batches: Iterator[Tree], answer: Callable[[], None]):
        self._batches = batches
        self._answer = answer
        self._thread: threading.Thread | None = None
        self._batch: Any = END
        self._error: BaseException | None = None
        self._skipped: Any = END

    def first(self, skip: int) -> Any:
        """A run's first batch, after those that a restored run had taken before."""
        for batch in itertools.islice(self._batches, skip):
            self._skipped = batch
        self.ask()
        batch = self.take()
        if batch is END and skip == 0:
            raise ValueError(
                "`batches` must yield at least one batch, but it is empty. A generator "
                "that was gone through once is: make a new one for each run."
            )
        return batch

    def example(self) -> Any:
        """A batch for its shapes, where a restored run has no step left to make."""
        if self._skipped is END:
            self._skipped = next(self._batches, END)
        return None if self._skipped is END else _on_device(self._skipped)

    def ask(self) -> None:
        """Begin to fetch the next batch."""
        # No pool: its threads would keep a process from ending while a source is slow.
        self._thread = threading.Thread(target=self._fetch, daemon=True)
        self._thread.start()

    def take(self) -> Any:
        """What was asked for, `END` where there is no more. Raises what went wrong."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.1)
            self._answer()  # a source may be slow, or never answer
        if self._error is not None:
            raise self._error
        return self._batch

    def _fetch(self) -> None:
        try:
            batch = next(self._batches, END)
            self._batch = batch if batch is END else _on_device(batch)
        except BaseException as error:
            self._error = error


def _on_device(batch: Tree) -> Tree:
    def copied(path: Any, leaf: Any) -> Any:
        if isinstance(leaf, jax.Array):
            return leaf
        # A copy, because a source may use the same memory for its next batch.
        array = np.array(leaf, copy=True)
        if array.dtype.kind not in "biufcV":
            raise TypeError(
                "`batches` must yield trees of arrays and numbers, but at "
                f"`{jax.tree_util.keystr(path) or '(root)'}` {describe(leaf)} came."
            )
        return array

    return jax.device_put(jax.tree_util.tree_map_with_path(copied, batch))
