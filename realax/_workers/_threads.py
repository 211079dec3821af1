"""Workers that are threads, for jobs that wait for something outside of Python."""

import contextlib
import itertools
import queue
import threading
import time
import weakref
from typing import Any, final

from .._check import no_type_check
from ._engine import AbstractEngine, Lost, Reply
from ._jobs import BETWEEN, AbstractPlayer, Batch, Setup
from ._worker import played


class _Left(BaseException):
    """Raised in a thread that no one waits for, at the begin of its next job."""


class _Thread:
    """A thread, and the batch that it runs.

    It is a daemon, so that one that hangs does not keep the process alive.

    **Arguments:**

    - `done`: the queue into which it puts the number of a batch and its reply.
    """

    def __init__(self, done: "queue.SimpleQueue[tuple[int, Reply]]"):
        self.orders = queue.SimpleQueue[tuple[int, Setup, Batch] | None]()
        self.entry: tuple[int, float] = (BETWEEN, 0.0)  # the job, and since when
        self.left = False
        self._done = done
        self._opened: tuple[Setup, AbstractPlayer] | None = None
        threading.Thread(target=self._run, name="realax worker", daemon=True).start()

    def leave(self) -> None:
        """End the thread after its job."""
        self.left = True
        self.orders.put(None)

    @no_type_check
    def begin(self, job: int) -> None:
        """Record that a job begins now."""
        if self.left:
            raise _Left
        self.entry = job, time.monotonic()

    @no_type_check
    def _run(self) -> None:
        with contextlib.suppress(_Left):
            while (order := self.orders.get()) is not None:
                number, setup, batch = order
                start = time.perf_counter()
                results = played(self._player(setup), batch, self.begin)
                self.entry = BETWEEN, 0.0
                seconds = time.perf_counter() - start
                self._done.put((number, Reply(results, seconds)))
        if self._opened is not None:
            self._opened[1].close()

    @no_type_check
    def _player(self, setup: Setup) -> Any:
        def open_() -> AbstractPlayer:
            if self._opened is None or self._opened[0] is not setup:
                before, self._opened = self._opened, None
                if before is not None:
                    before[1].close()
                self._opened = setup, setup.work.open(setup)
            return self._opened[1]

        return open_


@final
class Threads(AbstractEngine):
    """Runs batches in threads of this process.

    A thread cannot be ended. One whose job takes too long is left alone: it ends after
    that job, and another takes its place.

    **Arguments:**

    - `workers`: the number of threads.
    """

    def __init__(self, workers: int):
        self._workers = workers
        self._counter = itertools.count()
        self._done = queue.SimpleQueue[tuple[int, Reply]]()
        self._idle = list[_Thread]()
        self._running = dict[int, _Thread]()
        weakref.finalize(self, _leave, self._idle)

    @property
    def workers(self) -> int:
        """The number of threads."""
        return self._workers

    @no_type_check
    def has_room(self) -> bool:
        """Return whether fewer batches than threads are in progress."""
        return len(self._running) < self._workers

    @no_type_check
    def submit(self, setup: Setup, batch: Batch) -> int:
        """Hand a batch to a free thread."""
        thread = self._idle.pop() if self._idle else _Thread(self._done)
        number = next(self._counter)
        self._running[number] = thread
        thread.orders.put((number, setup, batch))
        return number

    @no_type_check
    def finished(self, seconds: float) -> list[tuple[int, Reply | Lost]]:
        """Return the batches that are over, or wait for one for some seconds."""
        found = list[tuple[int, Reply | Lost]]()
        with contextlib.suppress(queue.Empty):
            while True:
                number, reply = self._done.get(timeout=0 if found else seconds)
                thread = self._running.pop(number, None)
                if thread is not None:  # else it was given up
                    self._idle.append(thread)
                    found.append((number, reply))
        return found

    @no_type_check
    def overdue(self, number: int, limit: float) -> Lost | None:
        """Return the job that is lost if it takes too long."""
        job, since = self._running[number].entry
        seconds = time.monotonic() - since
        if job == BETWEEN or seconds <= limit:
            return None
        return Lost(f"it took more than {seconds:.3g} s", True, job)

    @no_type_check
    def kill(self, number: int) -> Reply | None:
        """Leave the thread of a batch alone."""
        self._running.pop(number).leave()

    def close(self) -> None:
        """Leave all threads alone; those that are free end."""
        for thread in [*self._idle, *self._running.values()]:
            thread.leave()
        self._idle.clear()
        self._running.clear()


def _leave(threads: list[_Thread]) -> None:
    for thread in threads:
        thread.leave()
