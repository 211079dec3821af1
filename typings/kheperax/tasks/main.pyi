from typing import Any

class KheperaxTask:
    def __init__(self, kheperax_config: Any) -> None: ...
