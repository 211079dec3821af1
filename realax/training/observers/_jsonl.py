"""A log of JSON lines that holds each step once, even if a run is killed."""

import json
import math
import pathlib
from typing import Any

from ..._storage._atomic import cannot_write, make_folder, remove_unfinished
from ._jsonl_repair import truncate_after
from ._lock import Claim, claim


_ENCODER = json.JSONEncoder(allow_nan=False, default=str)

type Row = dict[str, Any]


class JsonLines:
    """A file with one JSON object for each step, written at the end of each chunk.

    NaN and infinity, which JSON cannot express, are written as `null`.

    **Arguments:**

    - `path`: the file.
    """

    def __init__(self, path: pathlib.Path):
        # Links are resolved, so that a file has one lock and a link stays a link.
        self.path = path.resolve()
        self._file: Any = None
        self._claim: Claim | None = None

    def open(self) -> None:
        """Lock the file without changing it."""
        if self.path.exists() and not (self.path.is_file() or self.path.is_dir()):
            return  # a pipe or a device
        make_folder(self.path.parent, "log_file")
        if self.path.exists():
            try:
                open(self.path, "ab").close()
            except OSError as error:
                raise cannot_write(error, "log_file", self.path) from error
        name, what = self.path.name, f"the log {self.path}"
        self._claim = claim(self.path.parent, name, what, "log_file")

    def start(
        self, step: int, since: int | None = None, lanes: tuple[str, ...] = ()
    ) -> None:
        """Keep the lines up to `step`, and remove the rest of a killed process.

        **Arguments:**

        - `step`: the last step to keep.
        - `since`: the step after which every step must have a line; the step of the
            first line if `None`.
        - `lanes`: not used: a line says which lane it is of.
        """
        del lanes
        try:
            if self._claim is not None and self._claim.held:
                remove_unfinished(self.path.parent, self.path.name)
            if self._claim is not None:
                self.path.touch()
                truncate_after(self.path, step, since)
            # Unbuffered, because a failed write must not be repeated when it is closed.
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise cannot_write(error, "log_file", self.path) from error

    def write(self, rows: list[tuple[int, int, Row]]) -> None:
        """Append a line for each row."""
        encode = _ENCODER.encode
        lines = list[str]()
        # Inlined, because type checks of a function would take longer than a row.
        for trained, step, row in rows:
            line = {"step": step, **row}
            if step != trained:
                line["train_step"] = trained
            try:
                lines.append(encode(line))
            except ValueError:  # NaN or infinity, which are rare
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
        """Close and release the file."""
        if self._file is not None:
            self._file.close()
        if self._claim is not None:
            self._claim.release()


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
