"""The policies again, under a second import path that scripts use."""

from ..policies import (
    BasePolicy as BasePolicy,
    MLPPolicy as MLPPolicy,
    NormalizedPolicy as NormalizedPolicy,
    RNNPolicy as RNNPolicy,
)
