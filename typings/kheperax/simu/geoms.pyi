from typing import Any

class Pos:
    def __init__(self, x: Any, y: Any) -> None: ...
