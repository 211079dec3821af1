"""The record that a checkpointer keeps of its run."""

import hashlib
import json
from typing import Any

from ..._storage._files import Stored
from ..._storage._fingerprint import configuration, environment, execution
from ..._trees import with_fields
from ._calls import Calls
from ._run import Run


_NOT_COMPARED = ("train_steps", "callbacks")


class Ledger:
    """The record that a checkpointer keeps of its run, while the run lasts.

    **Arguments:**

    - `run`: the run.
    - `objective`: the metric that ranks checkpoints, and `"min"` or `"max"`.
    - `state`: the state with which the run was called.
    """

    value: float | None = None  # of the objective at the last step
    since: int | None = None  # the step at which a restored run began
    saved: int | None = None  # the step of the newest file of this run
    complete: bool = False  # whether that file says that the call ends there
    failed: bool = False  # whether a file could not be written

    def __init__(self, run: Run, objective: list[str], state: Any):
        self.objective = objective
        self.key, self.start, self.end = run.key, run.start, run.end
        self.data = run.data_digest
        trainer = run.trainer
        self.configuration = configuration(trainer, _NOT_COMPARED)
        self.environment = environment() | execution(trainer, _NOT_COMPARED)
        if options := trainer.lone_xla_options:
            text = ", ".join(f"{name}={value}" for name, value in options.items())
            self.environment["compiler options"] = text
        self.values: dict[int, float] = {}  # of the objective, for each file
        self.calls = Calls()
        self.digest = digest_of(state)

    def adopt(self, stored: Stored) -> None:
        """Adopt the values and calls that the files of an earlier process list."""
        if stored.meta.get("objective") == self.objective:
            self.values = {int(k): v for k, v in stored.meta["values"].items()}
        self.calls = Calls(stored.meta)


def digest_of(state: Any) -> str:
    """Return a digest of a state without its counters, because rules may change."""
    state = with_fields(state, stopping=())
    return hashlib.sha256(json.dumps(configuration(state)).encode()).hexdigest()[:12]
