"""The state of a trainer, and the record of a run."""

from typing import TypedDict

import equinox as eqx
from jaxtyping import Array, Int

from .._check import no_type_check
from .._types import Step, Tree
from .stopping import Counters


class AbstractState(eqx.Module):
    """The state that a trainer passes from step to step, which has only array leaves.

    - `step`: the number of steps so far. The loop sets it.
    - `stopping`: the counters of early stopping, one for each rule. The loop sets
        them; a trainer ignores them.
    """

    step: eqx.AbstractVar[Step]
    stopping: Counters = eqx.field(default=(), kw_only=True)

    @property
    def steps(self) -> Int[Array, "*lanes"]:
        """The number of steps so far; of runs side by side, that of each."""
        return self.step

    @property
    @no_type_check
    def reusable(self) -> Tree:
        """The arrays whose memory a run may write over, of which there are none here.

        The states before and after a chunk of steps exist side by side. A state of
        which a part is too large for that, such as a replay buffer, returns it. A run
        copies it once from a state of the user's. If a step raises an error, that part
        of the state before it is lost.
        """
        return None


class Record[M](TypedDict):
    """The record of a run, each leaf with a leading axis of steps.

    - `metrics`: the metrics that `train_step` returned.
    - `record`: the values that the trainer's `record` returned; `None` if it has none.
    - `stopped_at`: the step at which a run with `EarlyStopping` ended, shape `()`;
        `None` for a run without.
    """

    metrics: M
    record: Tree
    stopped_at: Step | None
