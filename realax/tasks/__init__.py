"""Objectives that score parameters."""

from . import rl_policy as rl_policy
from ._base import AbstractTask as AbstractTask
from ._brax import BraxEnv as BraxEnv, BraxTask as BraxTask
from ._descriptor import (
    AbstractDescriptor as AbstractDescriptor,
    LastOf as LastOf,
    MeanOf as MeanOf,
)
from ._env import EnvTask as EnvTask
from ._envelope import EnvelopeTask as EnvelopeTask
from ._experience import Stream as Stream
from ._function import FunctionTask as FunctionTask, as_task as as_task
from ._gymnasium import GymnasiumTask as GymnasiumTask
from ._gymnax import GymnaxEnv as GymnaxEnv, GymnaxTask as GymnaxTask
from ._host import HostTask as HostTask
from ._kheperax import KheperaxTask as KheperaxTask
from ._make import ENV_SPACES as ENV_SPACES, make as make
from ._minibatch import Minibatch as Minibatch
from ._multi import MultiTask as MultiTask, MultiTaskAggregator as MultiTaskAggregator
from ._observing import (
    AbstractObservingTask as AbstractObservingTask,
    Evaluation as Evaluation,
)
from ._on_host import AbstractHostTask as AbstractHostTask
from ._options import EnvOptions as EnvOptions
from ._rollout import Experience as Experience, Trajectory as Trajectory
from ._spaces import EnvSpace as EnvSpace
from ._wrapper import AbstractWrapper as AbstractWrapper
