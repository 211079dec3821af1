"""Observers, which watch a run on the host."""

from ._base import (
    AbstractObserver as AbstractObserver,
    Handle as Handle,
    Selection as Selection,
    check_observer as check_observer,
)
from ._checkpoint import Checkpointer as Checkpointer
from ._evaluator import Evaluator as Evaluator
from ._load import load_checkpoint as load_checkpoint
from ._logger import Logger as Logger
from ._params import load_params as load_params, save_params as save_params
from ._progress import ProgressBar as ProgressBar
from ._run import Measured as Measured, Run as Run
