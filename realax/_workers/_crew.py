"""The distribution of jobs over workers, and what is done when one of them fails."""

import collections
import contextlib
import dataclasses
import math
import threading
from collections.abc import Callable
from typing import Any, Literal, final

from .._check import no_type_check
from .._errors import warn_user
from ._engine import AbstractEngine, Lost, Reply
from ._jobs import Failure, Jobs, Outcome, Setup


# Jobs are put into one batch if they take no longer than this together.
_BATCH_SECONDS = 0.02
# The time after which signals and timeouts are looked at again.
_LOOK_SECONDS = 0.2
# The length of an exception in a warning.
_SHOWN = 120
# So many times in a row may workers end before any of them has begun a job.
_MOST_STILLBORN = 3


@dataclasses.dataclass
@no_type_check
class _Progress:
    """The results of a generation so far."""

    jobs: Jobs
    results: list[Outcome | None]
    waiting: collections.deque[tuple[int, ...]]
    running: dict[int, tuple[int, ...]]
    strikes: collections.Counter[int]
    lost: dict[int, str]  # the reason why a job counts as failed


@final
class Crew:
    """Evaluates generations of jobs by the workers of an engine.

    A job is a function of its parameters and its key, so that the results depend
    neither on the workers nor on batches.

    **Arguments:**

    - `build`: makes the engine, when the first generation is evaluated.
    - `timeout`: the longest time of a job in seconds, from its start; `None` for none.
    - `retries`: how often a job is done again whose worker died or which took too long.
    - `errors`: whether an exception in a job ends the run, or counts as NaN.
    """

    def __init__(
        self,
        build: Callable[[], AbstractEngine],
        timeout: float | None,
        retries: int,
        errors: Literal["raise", "nan"],
    ):
        self._build = build
        self._engine: AbstractEngine | None = None
        self._timeout = math.inf if timeout is None else timeout
        self._retries = retries
        self._errors = errors
        self._seconds: float | None = None  # of one job
        self._warned = False
        self._stillborn = 0
        self._lock = threading.Lock()  # two threads may train on one task
        self._owner: int | None = None

    @no_type_check
    def evaluate(self, setup: Setup, jobs: Jobs) -> list[Outcome | None]:
        """Return the outcome of each job; `None` for one that failed.

        **Raises:** the exception of a job, with a note of its individual and seed;
        `RuntimeError` if all jobs fail, or if workers do not start.
        """
        if self._owner == threading.get_ident():
            raise RuntimeError(
                "a job cannot evaluate the task that it belongs to. Make another task "
                "for it."
            )
        with self._lock:
            self._owner = threading.get_ident()
            try:
                return self._evaluate(setup, jobs) if len(jobs) else []
            finally:
                self._owner = None

    @no_type_check
    def _evaluate(self, setup: Setup, jobs: Jobs) -> list[Outcome | None]:
        if self._engine is None:
            self._engine = self._build()
        engine, number = self._engine, len(jobs)
        progress = _Progress(
            jobs,
            [None] * number,
            collections.deque(self._batches(setup, number, engine)),
            {},
            collections.Counter(),
            {},
        )
        try:
            while progress.waiting or progress.running:
                while progress.waiting and engine.has_room():
                    some = progress.waiting.popleft()
                    name = engine.submit(setup, jobs.batch(some))
                    progress.running[name] = some
                answers = engine.finished(self._patience(progress))
                self._count_stillborn([answer for _, answer in answers])
                for name, answer in answers:
                    self._take(progress, progress.running.pop(name), answer)
                self._end_late(progress, engine)
        except BaseException:
            with contextlib.suppress(Exception):  # the first error says more
                engine.close()
            raise
        self._report(progress)
        return progress.results

    def close(self) -> None:
        """End the workers. They start again when they are needed."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    @no_type_check
    def _batches(self, setup: Setup, number: int, engine: AbstractEngine) -> Any:
        """Return the jobs in batches: equal shares, or as many as are done quickly."""
        share = -(-number // engine.workers)
        size = share
        if not (setup.work.together or engine.exact or self._timeout == math.inf):
            size = 1  # so that each job has a timeout of its own
        elif not setup.work.together and engine.workers > 1:
            known = self._seconds
            size = 1 if known is None else int(_BATCH_SECONDS / max(known, 1e-9))
            size = max(1, min(size, share))
        return [
            tuple(range(first, min(first + size, number)))
            for first in range(0, number, size)
        ]

    @no_type_check
    def _patience(self, progress: _Progress) -> float:
        return (
            _LOOK_SECONDS
            if self._timeout == math.inf
            else min(_LOOK_SECONDS, self._timeout / 4)
        )

    @no_type_check
    def _take(
        self, progress: _Progress, jobs: tuple[int, ...], answer: Reply | Lost
    ) -> None:
        if isinstance(answer, Lost):
            self._put_back(progress, jobs, answer)
            return
        each = answer.seconds / len(jobs)
        self._seconds = each if self._seconds is None else (self._seconds + each) / 2
        for job, result in zip(jobs, answer.results, strict=True):
            if isinstance(result, Outcome):
                progress.results[job] = result
            elif result.left:
                self._strike(progress, job, "it called `sys.exit`")
            elif self._errors == "raise" or result.fatal:
                raise _noted(result, progress.jobs.name(job))
            else:
                text = repr(result.error)
                shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
                progress.lost[job] = f"it raised {shown}"

    @no_type_check
    def _count_stillborn(self, answers: list[Reply | Lost]) -> None:
        """Count how often in a row workers ended before any of them began a job.

        **Raises:** `RuntimeError` if that is too often.
        """
        lost = [one for one in answers if isinstance(one, Lost) and not one.begun]
        if len(lost) < len(answers):
            self._stillborn = 0
        elif lost:
            self._stillborn += 1
        if self._stillborn >= _MOST_STILLBORN:
            self._stillborn = 0
            raise RuntimeError(
                f"workers ended {_MOST_STILLBORN} times in a row before they began a "
                f"job: {lost[0].reason}. Look at what they printed, and try "
                "`workers=0`, which evaluates in this process."
            )

    @no_type_check
    def _put_back(self, progress: _Progress, jobs: tuple[int, ...], lost: Lost) -> None:
        """Do the jobs of a lost batch again, and charge the one that was in progress.

        If it is not known which one that was, they are done again one by one.
        """
        if not lost.begun:
            progress.waiting.appendleft(jobs)
            return
        culprit = lost.culprit
        if culprit is None and len(jobs) > 1:
            progress.waiting.extendleft((job,) for job in reversed(jobs))
            return
        guilty = jobs[culprit or 0]
        others = tuple(job for job in jobs if job != guilty)
        if others:
            progress.waiting.appendleft(others)
        self._strike(progress, guilty, lost.reason)

    @no_type_check
    def _strike(self, progress: _Progress, job: int, reason: str) -> None:
        progress.strikes[job] += 1
        if progress.strikes[job] > self._retries:
            progress.lost[job] = reason
        else:
            progress.waiting.append((job,))

    @no_type_check
    def _end_late(self, progress: _Progress, engine: AbstractEngine) -> None:
        """End the workers whose jobs take too long."""
        if self._timeout == math.inf:
            return
        for name in list(progress.running):
            lost = engine.overdue(name, self._timeout)
            if lost is not None:
                reply = engine.kill(name)
                jobs = progress.running.pop(name)
                self._take(progress, jobs, lost if reply is None else reply)

    @no_type_check
    def _report(self, progress: _Progress) -> None:
        if not progress.lost:
            return
        job, reason = min(progress.lost.items())
        first = f"{progress.jobs.name(job)}: {reason}"
        if len(progress.lost) == len(progress.results):
            raise RuntimeError(
                f"all {len(progress.results)} evaluations failed. The first one, "
                f"{first}. Evaluate it alone to see why: `task(params, key)`."
            )
        if not self._warned:
            self._warned = True
            warn_user(
                f"{len(progress.lost)} of {len(progress.results)} evaluations failed "
                f"and count as NaN. The first one, {first}. Later failures are counted "
                "in the metric `failed` without a warning."
            )


def _noted(failure: Failure, name: str) -> BaseException:
    """Return the exception of a job, with a note of where it came from."""
    error = failure.error
    if not failure.outside:
        error.add_note(f"It was raised by the evaluation of {name}.")
    if error.__traceback__ is None:  # it comes from another process
        error.add_note(f"In the worker:\n{failure.text.rstrip()}")
    return error
