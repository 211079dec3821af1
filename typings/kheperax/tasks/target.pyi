from dataclasses import dataclass

from kheperax.tasks.config import KheperaxConfig
from kheperax.tasks.main import KheperaxTask

@dataclass
class TargetKheperaxConfig(KheperaxConfig):
    target_pos: tuple[float, float]
    target_radius: float

class TargetKheperaxTask(KheperaxTask): ...
