"""Workers that are actors of Ray, on whatever cluster `ray.init` reaches."""

import itertools
import signal
import threading
import time
import warnings
from typing import Any, final

import jax

from .._check import no_type_check
from ._engine import AbstractEngine, Lost, Reply
from ._jobs import Batch, Play, Setup
from ._processes import ENVIRONMENT
from ._worker import played, sendable


@final
class Ray(AbstractEngine):
    """Runs batches in actors of Ray, each on one core.

    Which job of a batch is in progress is not known, so that of a batch whose actor is
    lost the jobs are done again one by one.

    **Arguments:**

    - `workers`: the number of actors.
    """

    exact = False

    def __init__(self, workers: int):
        self._workers = workers
        self._idle = list[Any]()
        self._waking = dict[Any, Any]()  # actors by the reference of their first answer
        self._running = dict[int, tuple[Any, Any, float]]()
        self._setup: tuple[Setup, Any] | None = None
        self._counter = itertools.count()
        self._started = False

    @property
    def workers(self) -> int:
        """The number of actors."""
        return self._workers

    @no_type_check
    def has_room(self) -> bool:
        """Return whether an actor waits for a batch."""
        if not self._started:
            self._start()
        return bool(self._idle)

    @no_type_check
    def submit(self, setup: Setup, batch: Batch) -> int:
        """Hand a batch to an actor that waits for one."""
        import ray

        if self._setup is None or self._setup[0] is not setup:
            self._setup = setup, ray.put(setup)
        actor, number = self._idle.pop(), next(self._counter)
        x64 = bool(jax.config.jax_enable_x64)
        # In a list, Ray hands over the reference and not what it stands for.
        answer = actor.work.remote([self._setup[1]], batch, x64)
        self._running[number] = actor, answer, time.monotonic()
        return number

    @no_type_check
    def finished(self, seconds: float) -> list[tuple[int, Reply | Lost]]:
        """Return the batches that are over, or wait for one for some seconds."""
        import ray

        answers = {one[1]: number for number, one in self._running.items()}
        waiting = [*answers, *self._waking]
        ready, _ = ray.wait(waiting, num_returns=1, timeout=seconds)
        more, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        found = list[tuple[int, Reply | Lost]]()
        for one in {*ready, *more}:
            if one in answers:
                number = answers[one]
                actor, answer, _ = self._running.pop(number)
                found.append((number, self._answer(actor, answer)))
            else:
                self._woken(one, self._waking.pop(one))
        return found

    @no_type_check
    def running_for(self, number: int) -> float:
        """Return how long ago a batch was handed to its actor."""
        return time.monotonic() - self._running[number][2]

    @no_type_check
    def kill(self, number: int) -> Lost:
        """End the actor of a batch; another takes its place."""
        import ray

        actor, _, since = self._running.pop(number)
        ray.kill(actor)
        self._wake()
        return Lost(f"it took more than {time.monotonic() - since:.3g} s")

    def close(self) -> None:
        """End all actors."""
        import ray

        actors = [*self._idle, *self._waking.values()]
        actors += [actor for actor, _, _ in self._running.values()]
        for actor in actors:
            ray.kill(actor)
        self._idle.clear()
        self._waking.clear()
        self._running.clear()
        self._setup, self._started = None, False

    @no_type_check
    def _answer(self, actor: Any, answer: Any) -> Reply | Lost:
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            reply: Any = ray.get(answer)
        except RayTaskError:  # outside of the jobs, such as a module that it lacks
            raise
        except RayError as error:
            ray.kill(actor)
            self._wake()
            return Lost(f"its actor was lost, {type(error).__name__}")
        self._idle.append(actor)
        return reply

    @no_type_check
    def _woken(self, answer: Any, actor: Any) -> None:
        import ray
        from ray.exceptions import RayError

        try:
            ray.get(answer)
        except RayError:
            self._wake()  # its node was lost while it started
        else:
            self._idle.append(actor)

    def _start(self) -> None:
        import ray

        if not ray.is_initialized():
            _begin(ray)
        self._started = True
        for _ in range(self._workers):
            self._wake()

    @no_type_check
    def _wake(self) -> None:
        """Start an actor, which gets batches once it has answered."""
        import ray

        options = {"num_cpus": 1, "runtime_env": {"env_vars": ENVIRONMENT}}
        kind: Any = ray.remote(_Actor)
        actor = kind.options(**options).remote()
        self._waking[actor.ready.remote()] = actor


def _begin(ray: Any) -> None:
    """Connect to a cluster, or start one on this machine."""
    before = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        # Of jax, about forks: those of Ray start another program at once.
        warnings.simplefilter("ignore", RuntimeWarning)
        ray.init(include_dashboard=False)
    if threading.current_thread() is threading.main_thread():
        # Ray's own handler would not let the run save its state.
        signal.signal(signal.SIGTERM, before)


class _Actor:
    """The code of an actor."""

    def __init__(self) -> None:
        self._opened: tuple[Any, Play] | None = None

    def ready(self) -> bool:
        """Return True."""
        return True

    def work(self, setup: list[Any], batch: Batch, x64: bool) -> Reply:
        """Evaluate a batch.

        **Arguments:**

        - `setup`: the reference of the setup.
        - `batch`: the batch.
        - `x64`: whether jax uses double precision.
        """
        import ray

        reference = setup[0]
        if self._opened is None or self._opened[0] != (reference, x64):
            jax.config.update("jax_enable_x64", x64)
            loaded: Any = ray.get(reference)
            self._opened = (reference, x64), loaded.work.open(loaded)
        start = time.perf_counter()
        results = played(self._opened[1], batch, lambda job: None)
        seconds = time.perf_counter() - start
        return Reply([sendable(one) for one in results], seconds)
