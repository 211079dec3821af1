"""Observers: what watches a run from the host."""

from ._base import (
    AbstractObserver as AbstractObserver,
    Handle as Handle,
    Observers as Observers,
    as_tuple as as_tuple,
)
from ._progress import ProgressBar as ProgressBar
