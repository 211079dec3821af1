from typing import Any

class Visualizer:
    def __init__(
        self,
        env_arg: Any,
        env_params_arg: Any,
        state_seq_arg: Any,
        reward_seq_arg: Any = None,
    ) -> None: ...
    def animate(
        self, save_fname: str | None = "test.gif", view: bool = False
    ) -> None: ...
