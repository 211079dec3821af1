from typing import Any

class Laser:
    def __init__(self, pos: Any, angle: Any, max_range: Any) -> None: ...
    def get_measure(
        self,
        tree_segments: Any,
        return_minus_one_if_out_of_range: bool,
        std_noise: float,
        random_key: Any,
    ) -> Any: ...
