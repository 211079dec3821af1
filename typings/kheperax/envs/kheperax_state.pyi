from typing import Any

class KheperaxState:
    def __init__(self, **fields: Any) -> None: ...
