"""Workers that are actors of Ray, on whatever cluster `ray.init` reaches."""

import contextlib
import itertools
import pickle
import signal
import threading
import time
import warnings
from typing import Any, final

from .._check import no_type_check
from .._errors import warn_user
from ._engine import AbstractEngine, Lost, Reply
from ._jobs import AbstractPlayer, Batch, Setup
from ._processes import ENVIRONMENT
from ._worker import Settings, compute_in_calls, pickled, played, settings, use_settings


# So many actors for each worker may fail to start in a row.
_MOST_STILLBORN = 3
# A warning is given if there is no actor for so many seconds.
_PATIENCE = 60.0


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
        self._stillborn = 0
        self._patience = 0.0  # since when no actor is there
        self._warned = False

    @property
    def workers(self) -> int:
        """The number of actors."""
        return self._workers

    @no_type_check
    def has_room(self) -> bool:
        """Return whether an actor waits for a batch."""
        if not self._started:
            self._start()
        if self._idle or self._running:
            self._patience = time.monotonic()
        elif not self._warned and time.monotonic() - self._patience > _PATIENCE:
            self._warned = True
            warn_user(
                f"no actor of Ray has started for {_PATIENCE:.0f} s. Each needs one "
                "core: does the cluster have one that is free?"
            )
        return bool(self._idle)

    @no_type_check
    def submit(self, setup: Setup, batch: Batch) -> int:
        """Hand a batch to an actor that waits for one."""
        import ray

        if self._setup is None or self._setup[0] is not setup:
            self._setup = setup, ray.put(setup)
        actor, number = self._idle.pop(), next(self._counter)
        # In a list, Ray hands over the reference and not what it stands for.
        answer = actor.work.remote([self._setup[1]], batch, settings())
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
    def overdue(self, number: int, limit: float) -> Lost | None:
        """Return that a batch is lost if it was handed over too long ago."""
        seconds = time.monotonic() - self._running[number][2]
        return Lost(f"it took more than {limit:.3g} s") if seconds > limit else None

    @no_type_check
    def kill(self, number: int) -> Reply | None:
        """End the actor of a batch; another takes its place."""
        import ray

        ray.kill(self._running.pop(number)[0])
        self._wake()

    def close(self) -> None:
        """End all actors."""
        import ray

        actors = [*self._idle, *self._waking.values()]
        actors += [actor for actor, _, _ in self._running.values()]
        self._idle.clear()
        self._waking.clear()
        self._running.clear()
        self._setup, self._started = None, False
        for actor in actors:
            with contextlib.suppress(Exception):  # Ray may have been shut down
                ray.kill(actor)

    @no_type_check
    def _answer(self, actor: Any, answer: Any) -> Reply | Lost:
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            reply: Any = pickle.loads(ray.get(answer))
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
        except RayError as error:  # its node may have been lost while it started
            self._stillborn += 1
            if self._stillborn > _MOST_STILLBORN * self._workers:
                raise RuntimeError(
                    f"{self._stillborn} actors in a row did not start. Install realax "
                    "on each node of the cluster, and look at Ray's logs."
                ) from error
            self._wake()
        else:
            self._stillborn = 0
            self._idle.append(actor)

    def _start(self) -> None:
        import ray

        if not ray.is_initialized():
            _begin(ray)
        self._started, self._patience = True, time.monotonic()
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
        compute_in_calls()
        self._opened: tuple[Any, AbstractPlayer] | None = None

    def ready(self) -> bool:
        """Return True."""
        return True

    def work(self, setup: list[Any], batch: Batch, given: Settings) -> bytes:
        """Evaluate a batch, and return the pickled `Reply`.

        **Arguments:**

        - `setup`: the reference of the setup.
        - `batch`: the batch.
        - `given`: the settings of jax in the parent.
        """
        changed = use_settings(given)

        def player() -> AbstractPlayer:
            import ray

            if changed or self._opened is None or self._opened[0] != setup[0]:
                if self._opened is not None:
                    self._opened[1].close()
                loaded: Any = ray.get(setup[0])
                self._opened = setup[0], loaded.work.open(loaded)
            return self._opened[1]

        start = time.perf_counter()
        results = played(player, batch, lambda job: None)
        return pickled(Reply(results, time.perf_counter() - start))
