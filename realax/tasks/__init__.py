"""Tasks: what is good and what is bad."""

from . import rl_policy as rl_policy
from ._base import AbstractTask as AbstractTask
from ._brax import BraxEnv as BraxEnv, BraxTask as BraxTask
from ._env import EnvTask as EnvTask, Trajectory as Trajectory
from ._envelope import EnvelopeTask as EnvelopeTask
from ._gymnax import GymnaxEnv as GymnaxEnv, GymnaxTask as GymnaxTask
from ._make import ENV_SPACES as ENV_SPACES, make as make
from ._minibatch import Minibatch as Minibatch
from ._spaces import EnvSpace as EnvSpace
