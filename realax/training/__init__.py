"""Trainers, the loop that runs them, observers and stopping rules."""

from . import log as log
from ._base import AbstractTrainer as AbstractTrainer
from ._callbacks import Callbacks as Callbacks, CallbacksLike as CallbacksLike
from ._state import AbstractState as AbstractState, Record as Record
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
    Checkpointer as Checkpointer,
    Evaluator as Evaluator,
    Handle as Handle,
    Logger as Logger,
    ProgressBar as ProgressBar,
    Run as Run,
    load_checkpoint as load_checkpoint,
    load_params as load_params,
    save_params as save_params,
)
from .qd import (
    AbstractArchive as AbstractArchive,
    AbstractEmitter as AbstractEmitter,
    CMAEmitter as CMAEmitter,
    CMAMAEEmitter as CMAMAEEmitter,
    CMAMEGAEmitter as CMAMEGAEmitter,
    CVTArchive as CVTArchive,
    Elites as Elites,
    GaussianEmitter as GaussianEmitter,
    GridArchive as GridArchive,
    IsoLineEmitter as IsoLineEmitter,
    MultiEmitter as MultiEmitter,
    OMGMEGAEmitter as OMGMEGAEmitter,
    QDaxEmitter as QDaxEmitter,
    QDMetrics as QDMetrics,
    QDState as QDState,
    QDTrainer as QDTrainer,
    Told as Told,
    UnstructuredArchive as UnstructuredArchive,
)
from .rl import (
    DDPG as DDPG,
    DQN as DQN,
    PPO as PPO,
    PQN as PQN,
    SAC as SAC,
    TD3 as TD3,
    ActionValue as ActionValue,
    DQNMetrics as DQNMetrics,
    OffPolicyState as OffPolicyState,
    PPOMetrics as PPOMetrics,
    PPOState as PPOState,
    PQNState as PQNState,
    ReplayBuffer as ReplayBuffer,
    SACMetrics as SACMetrics,
    TD3Metrics as TD3Metrics,
)
from .stopping import (
    AbstractCounters as AbstractCounters,
    AbstractStopping as AbstractStopping,
    EarlyStopping as EarlyStopping,
)
