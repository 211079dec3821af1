"""Training by gradient."""

from ._optimize import OptimizeOptions as OptimizeOptions, optimize as optimize
from ._state import GradMetrics as GradMetrics, GradState as GradState
from ._trainer import OptaxTrainer as OptaxTrainer
