"""Logging to TensorBoard."""

# pyright: reportMissingTypeStubs=false
import pathlib
from typing import Any

from ..._storage._atomic import make_folder
from ._jsonl import Row
from ._lock import Claim, claim


class TensorBoard:
    """Writes scalars for TensorBoard by tensorboardX."""

    def __init__(self, folder: pathlib.Path):
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError(
                '`log_dir` needs tensorboardX: `pip install "realax[tensorboard]"`.'
            ) from error
        self._begin = SummaryWriter
        self._folder = folder
        self._writer: Any = None
        self._claim: Claim | None = None

    def open(self) -> None:
        """Lock the folder."""
        make_folder(self._folder, "log_dir")
        what = f"the log in {self._folder}"
        self._claim = claim(self._folder, "tensorboard", what, "log_dir")

    def start(self, step: int, since: int | None) -> None:
        """Let TensorBoard drop the steps after `step`."""
        del since
        purge = step + 1 if step > 0 else None
        self._writer = self._begin(str(self._folder), purge_step=purge)

    def write(self, rows: list[tuple[int, int, Row]]) -> None:
        """Write each number of the rows."""
        for _, step, row in rows:
            for name, value in row.items():
                if isinstance(value, bool | int | float):
                    self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file, and release the folder."""
        if self._writer is not None:
            self._writer.close()
        if self._claim is not None:
            self._claim.release()
