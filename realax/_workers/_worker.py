"""The code that runs in a process that is a worker."""

import ctypes
import os
import pathlib
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from .._check import no_type_check
from ._board import Board
from ._engine import Reply
from ._jobs import AbstractPlayer, Batch, Begin, Failure, Outcome


# The setup that was used last, by its file, and the player that was opened for it.
_opened: list[tuple[str, AbstractPlayer]] = []
_boards: list[Board] = []

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl

# Settings of jax that change results. Workers take those of the parent.
_SETTINGS = (
    "jax_enable_x64",
    "jax_threefry_partitionable",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_numpy_dtype_promotion",
)

type Settings = tuple[Any, ...]


def begin_worker(board: str, parent: int, pipe: Any, cache: str | None) -> None:
    """Prepare a new worker.

    **Arguments:**

    - `board`: the file of the `Board`.
    - `parent`: the process that started it.
    - `pipe`: the end of a pipe whose other end only that process holds.
    - `cache`: the folder of jax's persistent cache, if there is one.
    """
    # Ctrl-C is for the parent, which ends its workers, and with each the processes of
    # its own session. At the parent's request a worker ends at once, even if it is busy
    # outside of Python.
    if hasattr(os, "setsid"):
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _end_with(parent, pipe)
    _boards.append(Board(pathlib.Path(board)))
    compute_in_calls()
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", cache)


def compute_in_calls() -> None:
    """Let jax compute in the thread that calls a program, before it computes anything.

    To wake another thread takes some 50 us, four times as long as a small policy. jax
    reads no environment variable for this.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


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
def settings() -> Settings:
    """Return the settings of jax in this process."""
    return tuple(getattr(jax.config, name) for name in _SETTINGS)


@no_type_check
def use_settings(given: Settings) -> bool:
    """Set those of another process, and return whether some differed."""
    if given == settings():
        return False
    for name, value in zip(_SETTINGS, given, strict=True):
        jax.config.update(name, value)
    return True


@no_type_check
def work(setup: str, number: int, batch: Batch, given: Settings) -> bytes:
    """Evaluate a batch, and return the pickled `Reply`.

    **Arguments:**

    - `setup`: the file of the setup.
    - `number`: the number of the batch.
    - `batch`: the batch.
    - `given`: the settings of jax in the parent.
    """
    if use_settings(given):
        _close()
    board = _boards[0]

    def player() -> AbstractPlayer:
        if not _opened or _opened[0][0] != setup:
            _close()
            loaded = pickle.loads(pathlib.Path(setup).read_bytes())
            _opened.append((setup, loaded.work.open(loaded)))
        return _opened[0][1]

    start = time.perf_counter()
    results = played(player, batch, lambda job: board.begin(number, job))
    return pickled(Reply(results, time.perf_counter() - start))


@no_type_check
def _close() -> None:
    while _opened:
        _opened.pop()[1].close()


@no_type_check
def played(
    player: Callable[[], AbstractPlayer], batch: Batch, begin: Begin
) -> list[Outcome | Failure]:
    """Return the results of a batch.

    An error outside of its jobs, such as one in a policy, is given as that of each job.
    It ends the run.
    """
    try:
        return player().play(batch, begin)
    except KeyboardInterrupt:
        raise
    except Exception as error:
        return [Failure.of(error, fatal=True, outside=True)] * len(batch.jobs)
    except SystemExit as error:
        failure = RuntimeError(
            f"`sys.exit({error.code!r})` was called outside of a job"
        )
        return [Failure.of(failure, fatal=True, outside=True)] * len(batch.jobs)


@no_type_check
def pickled(reply: Reply) -> bytes:
    """Return a reply as bytes, with classes that only a script has.

    An exception that cannot be sent is replaced by a `RuntimeError` with its text.
    """
    import cloudpickle

    results = [
        one if isinstance(one, Outcome) else _without_frames(one)
        for one in reply.results
    ]
    reply = Reply(results, reply.seconds)
    try:
        return pickle.dumps(reply)
    except Exception:  # of any package, and of classes that a script defines
        return cloudpickle.dumps(reply)


@no_type_check
def _without_frames(failure: Failure) -> Failure:
    import cloudpickle

    error = failure.error.with_traceback(None)
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:  # whatever an exception does when it is pickled
        error = RuntimeError(f"{type(error).__qualname__}: {error}")
    return Failure(error, failure.text, failure.fatal, failure.left, failure.outside)
