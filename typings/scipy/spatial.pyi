from typing import Any

import numpy as np

class cKDTree:
    def __init__(self, data: np.ndarray) -> None: ...
    def query(
        self, x: np.ndarray, k: int = ..., *, workers: int = ...
    ) -> tuple[np.ndarray, np.ndarray]: ...

class Voronoi:
    vertices: np.ndarray
    regions: list[list[int]]
    point_region: np.ndarray
    def __init__(self, points: Any) -> None: ...
