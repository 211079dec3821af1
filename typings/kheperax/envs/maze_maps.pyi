from typing import Any

KHEPERAX_MAZES: dict[str, Any]
