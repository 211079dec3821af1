from typing import Any

algorithms: dict[str, Any]
