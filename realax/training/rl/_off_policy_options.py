"""The options that all learners with a replay buffer share."""

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from jaxtyping import ArrayLike

from ..._arguments import Check, Count, whole
from ..._types import Tree
from .._callbacks import CallbacksLike
from ..observers import Logger
from ._checks import RL_CHECKS


class OffPolicyOptions(TypedDict, total=False):
    """Keywords of every learner with a replay buffer.

    - `num_envs`: how many environments are played side by side.
    - `num_steps`: how many steps of each are played before each time of learning.
    - `gradient_steps`: how many batches are learned from each time.
    - `buffer_size`: how many of the latest steps are kept, of all environments
        together, rounded up to a multiple of `num_envs * num_steps`.
    - `batch_size`: how many of them are sampled for a batch, with replacement.
    - `learning_starts`: how many random steps are played before the first step of the
        trainer, rounded up to a multiple of `num_envs * num_steps`.
    - `learning_rate`: of Adam.
    - `gamma`: the discount of a step.
    - `normalize_obs`: whether observations are normalised by their running mean and
        variance; also on if that of the task is, or if the policy did before.
    - `train_steps`: how often to play and learn, in place of `total_timesteps`.
    - `record`: what to keep of each state beside the metrics, as `data["record"]`.
    - `callbacks`: one observer, or several.
    - `logger`: a `Logger`, added to `callbacks`.
    - `progress_bar`: whether to show one.
    - `compiler_options`: XLA's options for whole runs, values by name; by default those
        of the task, or what suits small batches.
    """

    num_envs: Count
    num_steps: Count
    gradient_steps: Count
    buffer_size: Count
    batch_size: Count
    learning_starts: Count
    learning_rate: ArrayLike
    gamma: ArrayLike
    normalize_obs: bool
    train_steps: Count | None
    record: Callable[[Any], Tree] | None
    callbacks: CallbacksLike
    logger: Logger | None
    progress_bar: bool
    compiler_options: Mapping[str, Any] | None


# Those of most learners; each may have others.
OFF_POLICY_DEFAULTS: dict[str, Any] = {
    "num_envs": 1,
    "num_steps": 1,
    "gradient_steps": 1,
    "buffer_size": 100_000,
    "batch_size": 256,
    "learning_starts": 1000,
    "learning_rate": 3e-4,
    "gamma": 0.99,
    "normalize_obs": False,
    "train_steps": None,
    "record": None,
    "callbacks": (),
    "logger": None,
    "progress_bar": False,
    "compiler_options": None,
}
OFF_POLICY_CHECKS: dict[str, Check] = {
    **RL_CHECKS,
    "num_steps": whole(),
    "gradient_steps": whole(),
    "buffer_size": whole(),
    "batch_size": whole(),
    "learning_starts": whole(),
}
