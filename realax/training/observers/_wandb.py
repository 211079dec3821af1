"""Logging to wandb."""

# pyright: reportMissingTypeStubs=false
import contextlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from ..._errors import warn_user
from ..._storage._atomic import cannot_write, make_folder
from ._jsonl import Row
from ._sinks import split_lane


class Wandb:
    """Mirrors a log at wandb. A failure causes one warning, and the run continues."""

    def __init__(self, id_file: pathlib.Path | None, kws: Mapping[str, Any]):
        import wandb  # imported late, because it takes seconds

        self._id_file = id_file
        self._kws = dict(kws)
        self._failed = False
        self._lanes: tuple[str, ...] = ()
        # Errors of a login or project are raised here, before training.
        self.run: Any = wandb.init(**self._kws)

    def open(self) -> None:
        """Make the folder of the file that holds the run's id."""
        if self._id_file is not None:
            make_folder(self._id_file.parent, "log_file")

    def start(self, step: int, since: int | None, lanes: tuple[str, ...] = ()) -> None:
        """Continue the run that was logged before, or link a new run to it."""
        del since
        self._lanes = lanes
        before = self._last_id()
        if step > 0 and before is not None and before != self.run.id:
            with self._mirror("resuming the run"):
                self._resume(before, step)
        if self._id_file is not None:
            try:
                self._id_file.write_text(json.dumps({"id": self.run.id}))
            except OSError as error:
                raise cannot_write(error, "log_file", self._id_file) from error

    def write(self, rows: list[tuple[int, int, Row]]) -> None:
        """Log each row under its own step."""
        if self._failed:
            return
        with self._mirror("logging"):
            if self._lanes:
                rows = self._joined(rows)
            for _, step, row in rows:
                self.run.log(row, step=step)

    def close(self) -> None:
        """Do nothing, because a run of wandb stays open until `finish`."""

    def finish(self) -> None:
        """End wandb's run."""
        with self._mirror("finishing"):
            self.run.finish()

    def _joined(self, rows: list[tuple[int, int, Row]]) -> list[tuple[int, int, Row]]:
        """Return one row for each step, with the lanes' names behind those of curves.

        wandb groups curves by what is before the slash.
        """
        joined = dict[tuple[int, int], Row]()
        for trained, step, row in rows:
            lane, row = split_lane(row)
            named = {f"{name}/{self._lanes[lane]}": row[name] for name in row}
            joined.setdefault((trained, step), {}).update(named)
        return [(*steps, row) for steps, row in joined.items()]

    def _resume(self, before: str, step: int) -> None:
        import wandb

        if not self.run.settings._offline:
            self.run.finish()
            kws = {k: v for k, v in self._kws.items() if k not in ("id", "resume")}
            self.run = wandb.init(**kws, resume_from=f"{before}?_step={step}")
            return
        # An offline run cannot drop rows that it has written.
        link = {"resumed_from": before, "resumed_at": step}
        self.run.config.update(link, allow_val_change=True)

    def _last_id(self) -> str | None:
        if self._id_file is None or not self._id_file.is_file():
            return None
        try:
            return str(json.loads(self._id_file.read_text())["id"])
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
                    "run continues without it; the other logs are complete."
                )
            self._failed = True
