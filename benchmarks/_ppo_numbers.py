"""The numbers with which every contestant of `ppo_speed.py` trains."""

from typing import Any


NUMBERS: dict[str, Any] = {
    "num_envs": 16,
    "num_steps": 128,
    "num_minibatches": 4,
    "learning_rate": 2.5e-4,
    "ent_coef": 0.01,
}
EPOCHS = 4
