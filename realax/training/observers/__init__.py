"""Observers: what watches a run from the host."""

from ._base import (
    AbstractObserver as AbstractObserver,
    Handle as Handle,
    Observers as Observers,
    as_tuple as as_tuple,
    check_selected as check_selected,
    host_field as host_field,
)
from ._checkpoint import Checkpointer as Checkpointer
from ._folder import load_checkpoint as load_checkpoint
from ._logger import Logger as Logger
from ._params import load_params as load_params, save_params as save_params
from ._progress import ProgressBar as ProgressBar
from ._stopping import (
    EarlyStopping as EarlyStopping,
    Stopped as Stopped,
    is_over as is_over,
    with_counters as with_counters,
)
