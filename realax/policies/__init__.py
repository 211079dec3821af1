"""Policies: models that play environments."""

from ._base import BasePolicy as BasePolicy
from ._mlp import MLPPolicy as MLPPolicy
from ._rnn import RNNPolicy as RNNPolicy
