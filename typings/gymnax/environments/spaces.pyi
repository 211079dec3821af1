from collections.abc import Mapping, Sequence
from typing import Any

class Space: ...

class Discrete(Space):
    n: int
    dtype: Any

class Box(Space):
    low: Any
    high: Any
    shape: tuple[int, ...]
    dtype: Any

class Dict(Space):
    spaces: Mapping[str, Space]

class Tuple(Space):
    spaces: Sequence[Space]
