"""The code that runs in a process that is a worker."""

import ctypes
import os
import pathlib
import pickle
import signal
import sys
import threading
import time
from typing import Any

import jax

from .._check import no_type_check
from ._board import Board
from ._engine import Reply
from ._jobs import Batch, Begin, Failure, Outcome, Play


# The setup that was used last, by its file, and the function that was opened for it.
_opened: list[tuple[str, Play]] = []
_boards: list[Board] = []

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl


def begin_worker(board: str, parent: int, pipe: Any, cache: str | None) -> None:
    """Prepare a new worker.

    **Arguments:**

    - `board`: the file of the `Board`.
    - `parent`: the process that started it.
    - `pipe`: the end of a pipe whose other end only that process holds.
    - `cache`: the folder of jax's persistent cache, if there is one.
    """
    # Ctrl-C is for the parent, which ends its workers. At its request, they end at once
    # even if they are busy outside of Python.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _end_with(parent, pipe)
    _boards.append(Board(pathlib.Path(board)))
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", cache)


def _end_with(parent: int, pipe: Any) -> None:
    """End this process when its parent ends."""

    def watch() -> None:
        try:
            pipe.poll(None)
        except OSError:
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if sys.platform == "linux":
        # A thread can do nothing while code outside of Python holds its lock.
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


@no_type_check
def work(setup: str, number: int, batch: Batch, x64: bool) -> Reply:
    """Evaluate a batch.

    **Arguments:**

    - `setup`: the file of the setup.
    - `number`: the number of the batch.
    - `batch`: the batch.
    - `x64`: whether jax uses double precision.
    """
    if bool(jax.config.jax_enable_x64) != x64:
        jax.config.update("jax_enable_x64", x64)
        _opened.clear()
    if not _opened or _opened[0][0] != setup:
        _opened.clear()
        loaded = pickle.loads(pathlib.Path(setup).read_bytes())
        _opened.append((setup, loaded.work.open(loaded)))
    board = _boards[0]
    start = time.perf_counter()
    results = played(_opened[0][1], batch, lambda job: board.begin(number, job))
    seconds = time.perf_counter() - start
    return Reply([sendable(one) for one in results], seconds)


@no_type_check
def played(play: Play, batch: Batch, begin: Begin) -> list[Outcome | Failure]:
    """Return the results of a batch; an error outside of its jobs is that of the first.

    It ends the run.
    """
    try:
        return play(batch, begin)
    except Exception as error:  # of any kind, and raised by the parent
        return [Failure.of(error, fatal=True)] * len(batch.jobs)


class Sent(Exception):
    """An exception, as the bytes that cloudpickle made of it.

    Classes of exceptions that a script defines cannot be pickled in any other way.
    """

    def __init__(self, pickled: bytes):
        super().__init__(pickled)
        self.pickled = pickled


@no_type_check
def sendable(result: Outcome | Failure) -> Outcome | Failure:
    """Return the result of a job in a form that can be pickled."""
    if isinstance(result, Outcome):
        return result
    import cloudpickle

    try:
        pickled = cloudpickle.dumps(result.error.with_traceback(None))
        pickle.loads(pickled)
    except Exception:  # noqa: BLE001, whatever an exception does when it is pickled
        kind = type(result.error).__qualname__
        pickled = cloudpickle.dumps(RuntimeError(f"{kind}: {result.error}"))
    return Failure(Sent(pickled), result.text, result.fatal, result.left)


def received(failure: Failure) -> Failure:
    """Return a failure from another process with its own exception."""
    if not isinstance(failure.error, Sent):
        return failure
    error = pickle.loads(failure.error.pickled)
    return Failure(error, failure.text, failure.fatal, failure.left)
