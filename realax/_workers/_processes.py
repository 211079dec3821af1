"""Workers that are processes, by pebble over the context of loky."""

import concurrent.futures
import contextlib
import itertools
import os
import pathlib
import shutil
import signal
import tempfile
import threading
import time
import weakref
from typing import Any, final

import jax

from .._check import no_type_check
from ._board import Board
from ._engine import AbstractEngine, Lost, Reply
from ._jobs import Batch, Setup
from ._worker import begin_worker, work


# One thread for each worker, and no accelerator, which several processes cannot share.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    # XLA's own number of threads, and small programs in the thread that calls them.
    "NPROC": "1",
    "JAX_CPU_ENABLE_ASYNC_DISPATCH": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
_DAY = 24 * 3600
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"


_BROKEN = Lost("all workers ended", begun=False)


@final
class Processes(AbstractEngine):
    """Runs batches in processes, of which a lost one is replaced.

    Workers never fork, and need no `__main__` guard. They ignore Ctrl-C, and end when
    this process ends, however it does.

    **Arguments:**

    - `workers`: the number of processes.
    """

    def __init__(self, workers: int):
        self._workers = workers
        self._pool: Any = None
        self._done = threading.Event()
        self._counter = itertools.count()
        self._setups = list[tuple[Setup, pathlib.Path]]()
        self._futures = dict[int, Any]()

    @property
    def workers(self) -> int:
        """The number of processes."""
        return self._workers

    @no_type_check
    def has_room(self) -> bool:
        """Return whether fewer batches than processes are in progress."""
        return len(self._futures) < self._workers

    @no_type_check
    def submit(self, setup: Setup, batch: Batch) -> int:
        """Hand a batch to the next free process."""
        pool = self._pool or self._start()
        number = next(self._counter)
        self._board.clear(number)
        arguments = (
            str(self._file_of(setup)),
            number,
            batch,
            bool(jax.config.jax_enable_x64),
        )
        self._futures[number] = pool.schedule(work, args=arguments)
        return number

    @no_type_check
    def finished(self, seconds: float) -> list[tuple[int, Reply | Lost]]:
        """Return the batches that are over, or wait for one for some seconds."""
        futures = self._futures
        concurrent.futures.wait(
            futures.values(), seconds, concurrent.futures.FIRST_COMPLETED
        )
        over = [number for number, future in futures.items() if future.done()]
        answers = [
            (number, self._answer(number, futures.pop(number))) for number in over
        ]
        if any(answer is _BROKEN for _, answer in answers):
            self.close()  # it starts again with the next batch
        return answers

    @no_type_check
    def running_for(self, number: int) -> float:
        """Return for how long the current job of a batch has been running."""
        _, since = self._board.read(number)
        return 0.0 if since == 0.0 else time.monotonic() - since

    @no_type_check
    def kill(self, number: int) -> Lost:
        """End the process of a batch."""
        job, since = self._board.read(number)
        seconds = time.monotonic() - since
        self._futures.pop(number).cancel()
        return Lost(f"it took more than {seconds:.3g} s", True, job)

    def close(self) -> None:
        """End all processes, and wait until they are gone."""
        pool, self._pool = self._pool, None
        self._futures.clear()
        self._setups.clear()
        if pool is not None:
            self._ending()

    @no_type_check
    def _answer(self, number: int, future: Any) -> Reply | Lost:
        from pebble import ProcessExpired

        error = None if future.cancelled() else future.exception()
        if error is None and not future.cancelled():
            return future.result()
        job, since = self._board.read(number)
        reason = "its worker was ended"
        if isinstance(error, ProcessExpired):
            reason = f"its worker died, {_ending_of(error.exitcode)}"
        elif isinstance(error, concurrent.futures.BrokenExecutor):
            return _BROKEN
        elif error is not None:
            raise error
        return Lost(reason, since != 0.0, job if since != 0.0 else None)

    def _start(self) -> Any:
        """Start the processes, in a thread that lives as long as they do.

        On Linux, the processes of a thread that ends get the signal of a parent's
        death.
        """
        import loky.backend
        import pebble

        _remove_old_folders()
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"realax-{os.getpid()}-"))
        self._folder = folder
        self._board = Board.new(folder / "board", self._workers)
        context: Any = _context(loky.backend.get_context("loky"))
        reader, writer = context.Pipe(duplex=False)
        cache = jax.config.jax_compilation_cache_dir
        pool = pebble.ProcessPool(
            self._workers,
            initializer=begin_worker,
            initargs=(str(folder / "board"), os.getpid(), reader, cache),
            context=context,
        )
        started, done = threading.Event(), threading.Event()
        problem = list[BaseException]()

        def keep() -> None:
            # Ctrl-C must not reach a process that is still starting.
            if hasattr(signal, "pthread_sigmask"):
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                pool.active  # noqa: B018, which starts it
            except BaseException as error:
                problem.append(error)
            started.set()
            done.wait()

        threading.Thread(target=keep, name="realax workers", daemon=True).start()
        started.wait()
        self._pool = pool
        pipe = reader, writer
        self._ending = weakref.finalize(self, _end, pool, done, folder, pipe)
        if problem:
            self.close()
            raise problem[0]
        return pool

    @no_type_check
    def _file_of(self, setup: Setup) -> pathlib.Path:
        """Return the file from which workers read a setup."""
        for known, file in self._setups:
            if known is setup:
                return file
        import cloudpickle

        file = self._folder / f"setup{next(self._counter)}"
        file.write_bytes(cloudpickle.dumps(setup))
        self._setups.append((setup, file))
        if len(self._setups) > 2:
            self._setups.pop(0)[1].unlink()
        return file


def _remove_old_folders() -> None:
    """Remove the files of processes that were killed before they could do so.

    Those of the last day stay, because a container may not see their processes.
    """
    for folder in pathlib.Path(tempfile.gettempdir()).glob("realax-*-*"):
        with contextlib.suppress(OSError, ValueError):
            old = time.time() - folder.stat().st_mtime > _DAY
            if old and not _is_alive(int(folder.name.split("-")[1])):
                shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        return True  # on Windows, `os.kill` would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _context(context: Any) -> Any:
    """Return loky's context, whose processes get the environment of workers."""
    made = context.Process
    flags = os.environ.get("XLA_FLAGS", "")
    if _ONE_THREAD not in flags:
        flags = f"{flags} {_ONE_THREAD}".strip()
    environment = {**ENVIRONMENT, "XLA_FLAGS": flags}

    def process(*args: Any, **kwargs: Any) -> Any:
        return made(*args, env=environment, **kwargs)

    kind = type("Context", (type(context),), {"Process": staticmethod(process)})
    return kind()


def _ending_of(code: int | None) -> str:
    if code is None or code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


def _end(pool: Any, done: threading.Event, folder: Any, pipe: Any) -> None:
    """End the processes of a pool at once, and remove their files."""
    pool.stop()
    pool.join()
    done.set()
    for end in pipe:
        end.close()
    shutil.rmtree(folder, ignore_errors=True)
