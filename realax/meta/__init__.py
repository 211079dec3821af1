"""Trainers of trainers: seeds and sweeps side by side, and training inside of tasks."""

from ._lanes import LanesState as LanesState
from ._population import (
    PopulationBased as PopulationBased,
    PopulationState as PopulationState,
)
from ._replicated import Replicated as Replicated
from ._restarting import Restarting as Restarting, RestartingState as RestartingState
from ._sweep import sweep as sweep
from ._table import Best as Best, Table as Table
from ._trainer_task import TrainerTask as TrainerTask
