"""Reinforcement learning."""

from ._ppo import PPO as PPO
from ._state import PPOMetrics as PPOMetrics, PPOState as PPOState
