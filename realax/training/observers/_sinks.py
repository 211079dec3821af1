"""Where a `Logger` writes, beside its file: TensorBoard, wandb."""

# pyright: reportMissingTypeStubs=false
import contextlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

from ..._errors import warn_user
from ..._storage._files import cannot_write, make_folder
from ._jsonl import Row
from ._lock import Claim, claim


class Sink(Protocol):
    """What takes rows.

    A run that has no step to make opens and closes it, and leaves it as it is.
    """

    def open(self) -> None:
        """Find out whether it can be written, and change nothing."""
        ...

    def start(self, step: int) -> None:
        """Begin, or go on after step `step`: what lies after it is dropped.

        Called once, before the first `write`.
        """
        ...

    def write(self, rows: list[tuple[int, int, Row]]) -> None:
        """Take the rows of a chunk: the step trained, the one to log under, the row."""
        ...

    def close(self) -> None:
        """Give back what is open."""
        ...


class TensorBoard:
    """Scalars for TensorBoard, by tensorboardX."""

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
        """Take possession of the folder."""
        make_folder(self._folder, "log_dir")
        what = f"the log in {self._folder}"
        self._claim = claim(self._folder, "tensorboard", what, "log_dir")

    def start(self, step: int) -> None:
        """Tell TensorBoard to forget what lies after `step`."""
        purge = step + 1 if step > 0 else None
        self._writer = self._begin(str(self._folder), purge_step=purge)

    def write(self, rows: list[tuple[int, int, Row]]) -> None:
        """Write each number."""
        for _, step, row in rows:
            for name, value in row.items():
                if isinstance(value, bool | int | float):
                    self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file, and let others have the folder."""
        if self._writer is not None:
            self._writer.close()
        if self._claim is not None:
            self._claim.release()


class Wandb:
    """A mirror at wandb that may fail: one warning, and the run goes on without it."""

    def __init__(self, memory: pathlib.Path | None, kws: Mapping[str, Any]):
        import wandb  # takes seconds: only where it is asked for

        self._memory = memory
        self._kws = dict(kws)
        self._failed = False
        # Errors of a login or project surface here, before anything is trained.
        self.run: Any = wandb.init(**self._kws)

    def open(self) -> None:
        """Make the folder in which the run's id is kept."""
        if self._memory is not None:
            make_folder(self._memory.parent, "log_file")

    def start(self, step: int) -> None:
        """Go on in the run that was logged before, or in a new one linked to it."""
        before = self._recall()
        if step > 0 and before is not None and before != self.run.id:
            with self._mirror("taking up the run"):
                self._resume(before, step)
        if self._memory is not None:
            try:
                self._memory.write_text(json.dumps({"id": self.run.id}))
            except OSError as error:
                raise cannot_write(error, "log_file", self._memory) from error

    def write(self, rows: list[tuple[int, int, Row]]) -> None:
        """Log each row under its own step."""
        if self._failed:
            return
        with self._mirror("logging"):
            for _, step, row in rows:
                self.run.log(row, step=step)

    def close(self) -> None:
        """Nothing: a run of wandb may be logged to again until `finish`."""

    def finish(self) -> None:
        """End wandb's run."""
        with self._mirror("finishing"):
            self.run.finish()

    def _resume(self, before: str, step: int) -> None:
        import wandb

        if not self.run.settings._offline:
            self.run.finish()
            kws = {k: v for k, v in self._kws.items() if k not in ("id", "resume")}
            self.run = wandb.init(**kws, resume_from=f"{before}?_step={step}")
            return
        # What an offline run has written can not be taken back.
        link = {"resumed_from": before, "resumed_at": step}
        self.run.config.update(link, allow_val_change=True)

    def _recall(self) -> str | None:
        if self._memory is None or not self._memory.is_file():
            return None
        try:
            return str(json.loads(self._memory.read_text())["id"])
        except (ValueError, KeyError):
            return None

    @contextlib.contextmanager
    def _mirror(self, doing: str) -> Any:
        try:
            yield
        except Exception as error:
            if not self._failed:
                warn_user(
                    f"wandb failed at {doing} ({type(error).__name__}: {error}). The "
                    "run goes on without it; what else is logged is complete."
                )
            self._failed = True
