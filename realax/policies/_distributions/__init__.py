"""Distributions of actions, which stochastic policies play by and learners judge by."""

from ._base import AbstractDistribution as AbstractDistribution
from ._categorical import Categorical as Categorical
from ._joint import Joint as Joint
from ._normal import Normal as Normal
from ._tanh_normal import TanhNormal as TanhNormal, squash as squash
