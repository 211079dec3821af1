from collections.abc import Callable
from typing import Any

def constant_schedule(value: float) -> Callable[[Any], Any]: ...
