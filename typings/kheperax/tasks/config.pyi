from dataclasses import dataclass
from typing import Any, Self

from kheperax.simu.robot import Robot

@dataclass
class KheperaxConfig:
    episode_length: int
    action_scale: float
    maze: Any
    robot: Robot
    std_noise_wheel_velocities: float
    limits: tuple[tuple[float, float], tuple[float, float]]
    @classmethod
    def get_default_for_map(cls, map_name: str) -> Self: ...
