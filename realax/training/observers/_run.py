"""The description of a run that observers watch."""

import dataclasses
import functools
from typing import Any

import numpy as np

from ..._storage._fingerprint import content_digest
from ..._types import PRNGKeyArray, Tree


# A number that an observer measured, or an array of one for each of the runs side by
# side.
type Measured = float | np.ndarray


@dataclasses.dataclass(frozen=True)
class Run:
    """A description of a run that is about to begin.

    - `trainer`: the trainer, with its callbacks.
    - `compiled_trainer`: the trainer as it is compiled, without callbacks.
    - `key`: the run's key.
    - `start`: the step of the state with which the run was called.
    - `end`: the step at which it ends, unless a rule or the end of its data is
        earlier.
    - `data`: the data of every step; `None` for a stream.
    - `streamed`: True if each step has a batch of its own.
    - `measured`: the numbers that observers measured after the last chunk, which belong
        in the log of its last step. It is filled before any `on_chunk`.
    """

    trainer: Any
    compiled_trainer: Any
    key: PRNGKeyArray
    start: int
    end: int
    data: Tree = None
    streamed: bool = False
    measured: dict[str, Measured] = dataclasses.field(
        default_factory=dict[str, Measured]
    )

    @property
    def objective(self) -> tuple[str, str]:
        """The trainer's objective: the name of a metric, and `"min"` or `"max"`."""
        return self.trainer.objective

    @property
    def since(self) -> int | None:
        """The step at which a restored run originally began; `None` for a new run."""
        found = (observer.since for observer in self.trainer.callbacks.observers)
        return next((since for since in found if since is not None), None)

    @functools.cached_property
    def data_digest(self) -> str | None:
        """The digest of the run's data, computed on demand; `None` for a stream."""
        return None if self.streamed else content_digest(self.data)
