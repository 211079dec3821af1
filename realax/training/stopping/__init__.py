"""Stopping: rules that end a run before its last step."""

from ._base import (
    AbstractCounters as AbstractCounters,
    AbstractStopping as AbstractStopping,
    Counters as Counters,
    Rules as Rules,
    is_over as is_over,
    with_counters as with_counters,
)
from ._early import EarlyStopping as EarlyStopping
