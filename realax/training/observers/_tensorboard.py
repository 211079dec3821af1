"""Logging to TensorBoard."""

# pyright: reportMissingTypeStubs=false
import pathlib
from typing import Any

from ..._storage._atomic import make_folder
from ._jsonl import Row
from ._lock import Claim, claim
from ._sinks import split_lane


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
        self._writers = list[Any]()
        self._lanes: tuple[str, ...] = ()
        self._claim: Claim | None = None

    def open(self) -> None:
        """Lock the folder."""
        make_folder(self._folder, "log_dir")
        what = f"the log in {self._folder}"
        self._claim = claim(self._folder, "tensorboard", what, "log_dir")

    def start(self, step: int, since: int | None, lanes: tuple[str, ...] = ()) -> None:
        """Let TensorBoard drop the steps after `step`. A lane has its own folder."""
        del since
        purge = step + 1 if step > 0 else None
        self._lanes = lanes
        folders = [self._folder / lane for lane in lanes] or [self._folder]
        self._writers = [self._begin(str(one), purge_step=purge) for one in folders]

    def write(self, rows: list[tuple[int, int, Row]]) -> None:
        """Write each number of the rows."""
        for _, step, row in rows:
            writer = self._writers[0]
            if self._lanes:
                lane, row = split_lane(row)
                writer = self._writers[lane]
            for name, value in row.items():
                if isinstance(value, bool | int | float):
                    writer.add_scalar(name, value, step)
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """Close the event file, and release the folder."""
        for writer in self._writers:
            writer.close()
        if self._claim is not None:
            self._claim.release()
