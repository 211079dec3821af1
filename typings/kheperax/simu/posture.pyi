from typing import Any

class Posture:
    x: Any
    y: Any
    angle: Any
    def __init__(self, x: Any, y: Any, angle: Any) -> None: ...
