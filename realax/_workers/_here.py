"""Evaluation in this process."""

import collections
import time
from typing import final

from .._check import no_type_check
from ._engine import AbstractEngine, Lost, Reply
from ._jobs import AbstractPlayer, Batch, Setup


@final
class Here(AbstractEngine):
    """Runs each batch at once, in the thread that submits it."""

    def __init__(self) -> None:
        self._opened: tuple[Setup, AbstractPlayer] | None = None
        self._replies = collections.deque[tuple[int, Reply | Lost]]()
        self._count = 0

    @property
    @no_type_check
    def workers(self) -> int:
        """1."""
        return 1

    @no_type_check
    def has_room(self) -> bool:
        """Return True if no batch has been run since `finished`."""
        return not self._replies

    @no_type_check
    def submit(self, setup: Setup, batch: Batch) -> int:
        """Run a batch."""
        if self._opened is None or self._opened[0] is not setup:
            self.close()
            self._opened = setup, setup.work.open(setup)
        self._count += 1
        start = time.perf_counter()
        results = self._opened[1].play(batch, _ignore)
        seconds = time.perf_counter() - start
        self._replies.append((self._count, Reply(results, seconds)))
        return self._count

    @no_type_check
    def finished(self, seconds: float) -> list[tuple[int, Reply | Lost]]:
        """Return the batches that were run."""
        del seconds
        found = list(self._replies)
        self._replies.clear()
        return found

    def overdue(self, number: int, limit: float) -> Lost | None:
        """Return `None`, because nothing runs when it is asked."""
        del number, limit

    def kill(self, number: int) -> Reply | None:
        """Return `None`, because nothing runs when it is called."""
        del number

    def close(self) -> None:
        """Release what was opened."""
        opened, self._opened = self._opened, None
        self._replies.clear()
        if opened is not None:
            opened[1].close()


@no_type_check
def _ignore(job: int) -> None:
    del job
