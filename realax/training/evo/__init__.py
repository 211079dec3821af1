"""Evolution strategies and genetic algorithms."""

from ._algorithm import Algorithm as Algorithm
from ._es import EvosaxTrainer as EvosaxTrainer
from ._evolve import evolve as evolve
from ._shaping import FitnessShaper as FitnessShaper
from ._state import ESMetrics as ESMetrics, ESState as ESState
