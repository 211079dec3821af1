"""Trainers, the loop that drives them, and what watches it."""

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
    Handle as Handle,
    Observers as Observers,
    ProgressBar as ProgressBar,
)
