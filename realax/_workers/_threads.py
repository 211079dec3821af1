"""Workers that are threads, for jobs that wait for something outside of Python."""

import concurrent.futures
import itertools
import threading
import time
from typing import Any, final

from .._check import no_type_check
from ._engine import AbstractEngine, Lost, Reply
from ._jobs import Batch, Play, Setup


@final
class Threads(AbstractEngine):
    """Runs batches in threads of this process.

    A thread cannot be ended. One whose job takes too long is left alone, and another
    takes its place.

    **Arguments:**

    - `workers`: the number of threads.
    """

    def __init__(self, workers: int):
        self._workers = workers
        self._pool: Any = None
        self._counter = itertools.count()
        self._futures = dict[int, Any]()
        self._begun = dict[int, tuple[int, float]]()
        self._local = threading.local()

    @property
    def workers(self) -> int:
        """The number of threads."""
        return self._workers

    @no_type_check
    def has_room(self) -> bool:
        """Return whether fewer batches than threads are in progress."""
        return len(self._futures) < self._workers

    @no_type_check
    def submit(self, setup: Setup, batch: Batch) -> int:
        """Hand a batch to the next free thread."""
        if self._pool is None:
            import pebble

            self._pool = pebble.ThreadPool(self._workers)
        number = next(self._counter)
        self._futures[number] = self._pool.schedule(
            self._work, args=(setup, number, batch)
        )
        return number

    @no_type_check
    def finished(self, seconds: float) -> list[tuple[int, Reply | Lost]]:
        """Return the batches that are over, or wait for one for some seconds."""
        futures = self._futures
        concurrent.futures.wait(
            futures.values(), seconds, concurrent.futures.FIRST_COMPLETED
        )
        over = [number for number, future in futures.items() if future.done()]
        for number in over:
            self._begun.pop(number, None)
        return [(number, futures.pop(number).result()) for number in over]

    @no_type_check
    def running_for(self, number: int) -> float:
        """Return for how long the current job of a batch has been running."""
        _, since = self._begun.get(number, (0, time.monotonic()))
        return time.monotonic() - since

    @no_type_check
    def kill(self, number: int) -> Lost:
        """Leave the thread of a batch alone, with all others of its pool."""
        job, since = self._begun.pop(number)
        del self._futures[number]
        pool, self._pool = self._pool, None
        pool.close()  # what it runs is finished
        return Lost(f"it took more than {time.monotonic() - since:.3g} s", True, job)

    def close(self) -> None:
        """Leave all threads alone."""
        pool, self._pool = self._pool, None
        self._futures.clear()
        self._begun.clear()
        if pool is not None:
            pool.close()

    @no_type_check
    def _work(self, setup: Setup, number: int, batch: Batch) -> Reply:
        play = self._opened(setup)

        @no_type_check
        def begin(job: int) -> None:
            if job < 0:
                self._begun.pop(number, None)
            else:
                self._begun[number] = job, time.monotonic()

        start = time.perf_counter()
        return Reply(play(batch, begin), time.perf_counter() - start)

    @no_type_check
    def _opened(self, setup: Setup) -> Play:
        if getattr(self._local, "setup", None) is not setup:
            self._local.setup, self._local.play = setup, setup.work.open(setup)
        return self._local.play
