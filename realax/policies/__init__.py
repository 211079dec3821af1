"""Policies: models that play environments."""

from ._actor_critic import (
    ActorCritic as ActorCritic,
    Explorer as Explorer,
    Judgement as Judgement,
    replay as replay,
)
from ._base import BasePolicy as BasePolicy, Decision as Decision
from ._bounded import (
    BoundedPolicy as BoundedPolicy,
    NoisyPolicy as NoisyPolicy,
    RandomPolicy as RandomPolicy,
)
from ._bounds import Bounds as Bounds
from ._distributions import (
    AbstractDistribution as AbstractDistribution,
    Categorical as Categorical,
    Joint as Joint,
    Normal as Normal,
    TanhNormal as TanhNormal,
)
from ._greedy import EpsilonGreedy as EpsilonGreedy, GreedyPolicy as GreedyPolicy
from ._heads import (
    AbstractHead as AbstractHead,
    CategoricalHead as CategoricalHead,
    JointHead as JointHead,
    NormalHead as NormalHead,
    TanhNormalHead as TanhNormalHead,
    normal_head as normal_head,
)
from ._mlp import MLPPolicy as MLPPolicy
from ._normalized import (
    Moments as Moments,
    NormalizedPolicy as NormalizedPolicy,
    ObsStats as ObsStats,
    no_obs as no_obs,
)
from ._rnn import RNNPolicy as RNNPolicy
from ._stochastic import (
    AbstractStochasticPolicy as AbstractStochasticPolicy,
    StochasticPolicy as StochasticPolicy,
)
