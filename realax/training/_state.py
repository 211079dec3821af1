"""What a trainer carries from step to step, and what a run leaves behind."""

from typing import TypedDict

import equinox as eqx

from .._types import Step, Tree
from .stopping import Counters


class AbstractState(eqx.Module):
    """The state of a trainer, which goes from step to step: arrays only.

    - `step`: the number of steps so far. The loop counts it.
    - `stopping`: the counters of early stopping, one for each rule. The loop keeps
        them; a trainer leaves them out.
    """

    step: eqx.AbstractVar[Step]
    stopping: Counters = eqx.field(default=(), kw_only=True)


class Record[M](TypedDict):
    """The record of a run, each leaf with a leading axis of steps.

    - `metrics`: what `train_step` returned beside the state.
    - `record`: what the trainer's `record` chose; `None` where it was not given.
    - `stopped_at`: the step at which a run with `EarlyStopping` ended, shape `()`;
        `None` for one without.
    """

    metrics: M
    record: Tree
    stopped_at: Step | None
