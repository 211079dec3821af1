"""The policies, under the path that scripts import them from."""

from ..policies import (
    BasePolicy as BasePolicy,
    MLPPolicy as MLPPolicy,
    NormalizedPolicy as NormalizedPolicy,
    RNNPolicy as RNNPolicy,
)
