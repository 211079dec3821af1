"""Evaluation in this process."""

import collections
import time
from typing import final

from .._check import no_type_check
from ._engine import AbstractEngine, Lost, Reply
from ._jobs import Batch, Play, Setup


@final
class Here(AbstractEngine):
    """Runs each batch at once, in the thread that submits it."""

    def __init__(self) -> None:
        self._setup: Setup | None = None
        self._play: Play | None = None
        self._replies = collections.deque[tuple[int, Reply | Lost]]()
        self._count = 0

    @property
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
        if self._play is None or self._setup is not setup:
            self._setup, self._play = setup, setup.work.open(setup)
        self._count += 1
        start = time.perf_counter()
        results = self._play(batch, lambda job: None)
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

    def running_for(self, number: int) -> float:
        """0, because nothing runs when it is asked."""
        del number
        return 0.0

    def kill(self, number: int) -> Lost:
        """Do nothing, because nothing runs when it is called."""
        del number
        return Lost("it was ended")

    def close(self) -> None:
        """Forget what was opened."""
        self._setup = self._play = None
        self._replies.clear()
