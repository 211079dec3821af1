"""The contract of engines, which run batches in workers."""

import abc
import dataclasses
from typing import ClassVar, NamedTuple

from ._jobs import Batch, Failure, Outcome, Setup


class Reply(NamedTuple):
    """What a batch gave: an outcome or a failure for each job, and how long it took."""

    results: list[Outcome | Failure]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Lost:
    """A batch whose worker is gone.

    - `reason`: why, as the end of a sentence.
    - `begun`: whether one of its jobs had begun.
    - `culprit`: the number in the batch of the job that was in progress, if known.
    """

    reason: str
    begun: bool = True
    culprit: int | None = None


class AbstractEngine(abc.ABC):
    """Runs batches in workers, each in a place of its own.

    - `exact`: whether it is known which job of a batch is in progress, and since when.
    """

    exact: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def workers(self) -> int:
        """The number of workers, among which the jobs of a generation are shared."""

    @abc.abstractmethod
    def has_room(self) -> bool:
        """Return whether a batch that is submitted now begins at once, or very soon."""

    @abc.abstractmethod
    def submit(self, setup: Setup, batch: Batch) -> int:
        """Hand a batch to a free worker, and return its number."""

    @abc.abstractmethod
    def finished(self, seconds: float) -> list[tuple[int, Reply | Lost]]:
        """Return the batches that are over, or wait for one for some seconds."""

    @abc.abstractmethod
    def overdue(self, number: int, limit: float) -> Lost | None:
        """Return what is lost if the current job of a batch takes too long, or `None`.

        If the engine is not `exact`, the time is that of the batch.

        **Arguments:**

        - `number`: the number of the batch.
        - `limit`: the longest time of a job, in seconds.
        """

    @abc.abstractmethod
    def kill(self, number: int) -> Reply | None:
        """End the worker of a batch; return the reply if it is over all the same."""

    @abc.abstractmethod
    def close(self) -> None:
        """End all workers at once. The engine starts new ones when it is used again."""
