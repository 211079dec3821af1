"""A run of a trainer that is built for it, as `evolve` and `optimize` make it."""

from typing import Any

from .._types import PRNGKeyArray, Tree
from ._base import AbstractTrainer
from ._state import AbstractState, Record


def run_once[S: AbstractState, M, P](
    trainer: AbstractTrainer[S, M, P], key: PRNGKeyArray, data: Tree, use_scan: bool
) -> tuple[P, S, Record[M]] | tuple[P, S]:
    """Train from a new state.

    **Arguments:**

    - `trainer`: the trainer.
    - `key`: the key, which is split into the state's and the run's.
    - `data`: the data of every step.
    - `use_scan`: whether to keep the metrics of every step.

    **Returns:** The trained parameters, the final state, and with `use_scan` the
    `Record`.
    """
    state: Any
    if use_scan:
        state, record = trainer.init_and_train(key, data)
        return trainer.params(state), state, record
    state = trainer.init_and_train_(key, data)
    return trainer.params(state), state
