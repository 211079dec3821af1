"""Trainers, the loop that drives them, and what watches it."""

from . import log as log
from ._base import (
    AbstractState as AbstractState,
    AbstractTrainer as AbstractTrainer,
    Record as Record,
)
from .evo import (
    Algorithm as Algorithm,
    ESMetrics as ESMetrics,
    ESState as ESState,
    EvosaxTrainer as EvosaxTrainer,
    FitnessShaper as FitnessShaper,
    evolve as evolve,
)
from .grad import (
    GradMetrics as GradMetrics,
    GradState as GradState,
    OptaxTrainer as OptaxTrainer,
    optimize as optimize,
)
from .observers import (
    AbstractObserver as AbstractObserver,
    Checkpointer as Checkpointer,
    EarlyStopping as EarlyStopping,
    Handle as Handle,
    Logger as Logger,
    Observers as Observers,
    ProgressBar as ProgressBar,
    host_field as host_field,
    load_checkpoint as load_checkpoint,
    load_params as load_params,
    save_params as save_params,
)
