"""Workers that are processes, by pebble over the context of loky."""

import concurrent.futures
import contextlib
import itertools
import os
import pathlib
import pickle
import signal
import threading
import time
import weakref
from typing import Any, final

import jax

from .._check import no_type_check
from ._board import Board
from ._engine import AbstractEngine, Lost, Reply
from ._folder import Folder
from ._jobs import Batch, Setup
from ._worker import begin_worker, settings, work


# One thread for each worker, and no accelerator, which several processes cannot share.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "NPROC": "1",  # XLA's own number of threads
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
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
        self._counter = itertools.count()
        self._setups = list[tuple[Setup, pathlib.Path]]()
        self._futures = dict[int, Any]()
        self._groups = set[int]()  # of workers that are gone or are being ended

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
        number = next(self._counter)
        self._futures[number] = self._scheduled(setup, number, batch)
        return number

    @no_type_check
    def finished(self, seconds: float) -> list[tuple[int, Reply | Lost]]:
        """Return the batches that are over, or wait for one for some seconds."""
        futures = self._futures
        concurrent.futures.wait(
            futures.values(), seconds, concurrent.futures.FIRST_COMPLETED
        )
        # In place, because the finalizer holds this set.
        self._groups -= {group for group in self._groups if _ended(group)}
        over = [number for number, future in futures.items() if future.done()]
        answers = [(one, self._answer(one, futures.pop(one))) for one in over]
        if any(answer is _BROKEN for _, answer in answers):
            # pebble gives up all of them, but not at once.
            answers += [(number, _BROKEN) for number in futures]
            self.close()  # it starts again with the next batch
        return answers

    @no_type_check
    def overdue(self, number: int, limit: float) -> Lost | None:
        """Return the job that is lost if it takes too long."""
        entry = self._board.read(number)
        seconds = time.monotonic() - entry.since
        if entry.culprit is None or seconds <= limit:
            return None
        return Lost(f"it took more than {seconds:.3g} s", True, entry.culprit)

    @no_type_check
    def kill(self, number: int) -> Reply | None:
        """End the process of a batch, and those that it has started."""
        future = self._futures.pop(number)
        if not future.cancel():
            answer = self._answer(number, future)
            return answer if isinstance(answer, Reply) else None
        self._groups.add(self._board.read(number).process)

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
            return pickle.loads(future.result())
        entry = self._board.read(number)
        reason = "its worker was ended"
        if isinstance(error, ProcessExpired):
            reason = f"its worker died, {_ending_of(error.exitcode)}"
        elif isinstance(error, concurrent.futures.BrokenExecutor):
            return _BROKEN
        elif error is not None:
            raise error
        if entry.begun:
            self._groups.add(entry.process)
        return Lost(reason, entry.begun, entry.culprit)

    @no_type_check
    def _scheduled(self, setup: Setup, number: int, batch: Batch) -> Any:
        for again in True, False:
            file = self._file_of(setup)
            self._board.clear(number)
            try:
                given = str(file), number, batch, settings()
                return self._pool.schedule(work, args=given)
            except RuntimeError:  # the pool broke when a worker died that had no batch
                if not again or self._futures:
                    raise
                self.close()

    def _start(self) -> None:
        """Start the processes, in a thread that lives as long as they do.

        On Linux, the processes of a thread that ends get the signal of a parent's
        death.
        """
        import loky.backend
        import pebble

        folder = Folder()
        self._board = Board.new(folder.path / "board", self._workers)
        context: Any = _context(loky.backend.get_context("loky"))
        reader, writer = context.Pipe(duplex=False)
        cache = jax.config.jax_compilation_cache_dir
        pool = pebble.ProcessPool(
            self._workers,
            initializer=begin_worker,
            initargs=(str(folder.path / "board"), os.getpid(), reader, cache),
            context=context,
        )
        started, done = threading.Event(), threading.Event()
        problem = list[BaseException]()
        self._folder, self._pool = folder, pool
        pipe = reader, writer
        self._ending = weakref.finalize(
            self, _end, pool, started, done, folder, pipe, self._groups
        )

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
        if problem:
            self.close()
            raise problem[0]

    @no_type_check
    def _file_of(self, setup: Setup) -> pathlib.Path:
        """Return the file from which workers read a setup, and start the workers."""
        for known, file in self._setups:
            if known is setup:
                return file
        import cloudpickle

        try:
            content = cloudpickle.dumps(setup)
        except Exception as error:  # pickling runs code of any package
            raise TypeError(
                f"the parameters and the data must be sent to workers, but cannot be "
                f"pickled: {error}. Leave out what holds a file or a connection, or "
                "pass `workers=0` or `backend='threads'`."
            ) from error
        if self._pool is None:
            self._start()
        file = self._folder.path / f"setup{next(self._counter)}"
        file.write_bytes(content)
        self._setups.append((setup, file))
        if len(self._setups) > 2:
            self._setups.pop(0)[1].unlink()
        return file


@no_type_check
def _ended(group: int) -> bool:
    """End what a worker has started, if the worker is gone; return whether it was.

    A worker has a session of its own, whose number is that of the worker.
    """
    if not hasattr(os, "killpg"):
        return True
    try:
        os.kill(group, 0)
    except ProcessLookupError:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        return True
    except PermissionError:
        return True
    return False


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


def _end(pool: Any, *others: Any) -> None:
    """End the processes of a pool at once, and remove their files.

    Garbage may be collected in a thread of the pool, which cannot wait for itself.
    """
    if threading.current_thread() is threading.main_thread():
        _end_now(pool, *others)
    else:
        thread = threading.Thread(target=_end_now, args=(pool, *others))
        thread.start()
        if not threading.current_thread().daemon:
            thread.join()


def _end_now(
    pool: Any,
    started: threading.Event,
    done: threading.Event,
    folder: Folder,
    pipe: Any,
    groups: set[int],
) -> None:
    try:
        started.wait()
        groups |= {*pool._pool_manager.worker_manager.workers}
        pool.stop()
        pool.join()
    finally:
        done.set()
        for end in pipe:
            end.close()
        for group in groups:
            _ended(group)
        folder.remove()
