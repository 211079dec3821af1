from dataclasses import dataclass
from typing import Any

from kheperax.simu.posture import Posture

@dataclass(frozen=True)
class Robot:
    posture: Posture
    radius: float
    laser_ranges: Any
    laser_angles: Any
    std_noise_sensor_measures: float = ...
    lasers_return_minus_one_if_out_of_range: bool = ...
    def laser_measures(self, maze: Any, random_key: Any) -> Any: ...
