"""Evolution strategies and genetic algorithms."""

from .._generation import Asked as Asked
from ._algorithm import Algorithm as Algorithm
from ._evolve import EvolveOptions as EvolveOptions, evolve as evolve
from ._shaping import FitnessShaper as FitnessShaper
from ._state import ESMetrics as ESMetrics, ESState as ESState
from ._trainer import EvosaxTrainer as EvosaxTrainer
