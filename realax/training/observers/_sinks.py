"""Where a `Logger` writes: a file of JSON lines, TensorBoard, wandb."""

# pyright: reportMissingTypeStubs=false
# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

from ..._errors import warn_user


type Row = dict[str, Any]

_ENCODER = json.JSONEncoder(allow_nan=False, default=str)


class Sink(Protocol):
    """What takes rows."""

    def start(self, step: int) -> None:
        """Begin, or go on after step `step`: what lies after it is dropped."""
        ...

    def write(self, rows: list[tuple[int, int, Row]]) -> None:
        """Take the rows of a chunk: the step trained, the one to log under, the row."""
        ...

    def close(self) -> None:
        """Give back what is open."""
        ...


class JsonLines:
    """One JSON object for each step, written out at the end of each chunk.

    Numbers that JSON has no word for, NaN and infinity, are `null`.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._file: Any = None

    def start(self, step: int) -> None:
        """Keep the lines up to `step`, and drop what a killed process left behind."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: what could not be written must not be tried again at the end.
        self._file = open(self.path, "ab+", buffering=0)  # noqa: SIM115
        if self.path.is_file():
            os.ftruncate(self._file.fileno(), _end_of(self.path, step))

    def write(self, rows: list[tuple[int, int, Row]]) -> None:
        """Append a line for each row."""
        encode = _ENCODER.encode
        lines = list[str]()
        # No function of ours for each row: its type checks would take longer than it.
        for trained, step, row in rows:
            line = {"step": step, **row}
            if step != trained:
                line["train_step"] = trained
            try:
                lines.append(encode(line))
            except ValueError:  # NaN or infinity somewhere: rare
                lines.append(encode(_finite(line)))
        text = "".join(f"{line}\n" for line in lines).encode()
        try:
            while text:
                text = text[self._file.write(text) :]
        except OSError as error:
            raise OSError(
                error.errno,
                f"the log could not be written ({error.strerror}). Make room, or "
                "choose another `log_file`. The path is",
                str(self.path),
            ) from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class TensorBoard:
    """Scalars for TensorBoard, by tensorboardX."""

    def __init__(self, folder: pathlib.Path):
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError(
                '`log_dir` needs tensorboardX: `pip install "realax[tensorboard]"`.'
            ) from error
        self._open = SummaryWriter
        self._folder = folder
        self._writer: Any = None

    def start(self, step: int) -> None:
        """Tell TensorBoard to forget what lies after `step`."""
        purge = step + 1 if step > 0 else None
        self._writer = self._open(str(self._folder), purge_step=purge)

    def write(self, rows: list[tuple[int, int, Row]]) -> None:
        """Write each number."""
        for _, step, row in rows:
            for name, value in row.items():
                if isinstance(value, bool | int | float):
                    self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()


class Wandb:
    """A mirror at wandb that may fail: one warning, and the run goes on without it."""

    def __init__(self, memory: pathlib.Path | None, kws: Mapping[str, Any]):
        import wandb  # takes seconds: only where it is asked for

        self._memory = memory
        self._kws = dict(kws)
        self._failed = False
        # Errors of a login or project surface here, before anything is trained.
        self.run: Any = wandb.init(**self._kws)

    def start(self, step: int) -> None:
        """Go on in the run that was logged before, or in a new one linked to it."""
        before = self._recall()
        if step > 0 and before is not None and before != self.run.id:
            with self._mirror("taking up the run"):
                self._resume(before, step)
        if self._memory is not None:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            self._memory.write_text(json.dumps({"id": self.run.id}))

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


def _end_of(path: pathlib.Path, step: int) -> int:
    """Where the lines up to `step` end. A line that was cut off is none."""
    end = 0
    with open(path, "rb") as file:
        for line in file:
            try:
                row = json.loads(line)
                done = row.get("train_step", row["step"])
                if not line.endswith(b"\n") or done > step:
                    break
            except (ValueError, KeyError, TypeError, AttributeError):
                break
            end += len(line)
    return end


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list():
            return [_finite(item) for item in value]
        case _:
            return value
