"""Policies: models that play environments."""

from ._base import BasePolicy as BasePolicy, Decision as Decision
from ._distributions import (
    AbstractDistribution as AbstractDistribution,
    Categorical as Categorical,
    Joint as Joint,
    Normal as Normal,
    TanhNormal as TanhNormal,
)
from ._mlp import MLPPolicy as MLPPolicy
from ._normalized import (
    Moments as Moments,
    NormalizedPolicy as NormalizedPolicy,
    ObsStats as ObsStats,
    no_obs as no_obs,
)
from ._rnn import RNNPolicy as RNNPolicy
