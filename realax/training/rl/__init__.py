"""Reinforcement learning."""

from ._dqn import DQN as DQN, DQNMetrics as DQNMetrics
from ._off_policy_state import OffPolicyState as OffPolicyState
from ._ppo import PPO as PPO
from ._pqn import PQN as PQN, PQNState as PQNState
from ._replay import ReplayBuffer as ReplayBuffer
from ._sac import SAC as SAC, SACMetrics as SACMetrics
from ._state import PPOMetrics as PPOMetrics, PPOState as PPOState
from ._td3 import DDPG as DDPG, TD3 as TD3, TD3Metrics as TD3Metrics
from ._value_networks import ActionValue as ActionValue
