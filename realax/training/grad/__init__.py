"""Training by gradient."""

from ._optax import OptaxTrainer as OptaxTrainer
from ._optimize import optimize as optimize
from ._state import GradMetrics as GradMetrics, GradState as GradState
