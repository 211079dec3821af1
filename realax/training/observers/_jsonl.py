"""A log of JSON lines: each step once, whatever was killed or resumed."""

import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import IO, Any, Literal

from ..._errors import warn_user
from ..._storage._files import cannot_write, make_folder, remove_unfinished, replace
from ._lock import Claim, claim


_ENCODER = json.JSONEncoder(allow_nan=False, default=str)

type Row = dict[str, Any]
type _Verdict = Literal["keep", "drop", "damaged"]


class JsonLines:
    """One JSON object for each step, written out at the end of each chunk.

    Numbers that JSON has no word for, NaN and infinity, are `null`.

    **Arguments:**

    - `path`: the file.
    - `since`: after which step there should be a line for each; `None`: after that of
        the first line.
    """

    def __init__(self, path: pathlib.Path, since: int | None = None):
        self.since = since
        # The file itself: one that a link points to has one lock, and stays linked.
        self.path = path.resolve()
        self._file: Any = None
        self._claim: Claim | None = None

    def open(self) -> None:
        """Take possession of the file, as it is."""
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

    def start(self, step: int) -> None:
        """Keep the lines up to `step`, and drop what a killed process left behind."""
        try:
            if self._claim is not None and self._claim.held:
                remove_unfinished(self.path.parent, self.path.name)
            if self._claim is not None:
                self.path.touch()
                _go_back(self.path, step, self.since)
            # Unbuffered: what could not be written must not be tried again at the end.
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise cannot_write(error, "log_file", self.path) from error

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
        """Close the file, and let others have it."""
        if self._file is not None:
            self._file.close()
        if self._claim is not None:
            self._claim.release()


def _go_back(path: pathlib.Path, step: int, since: int | None) -> None:
    """Leave the lines up to `step` in a log, and say what is wrong with them."""
    end = place = 0
    in_one_piece, last = True, since
    damaged, gaps = list[bytes](), list[str]()
    with open(path, "rb") as file:
        for line, verdict, done in _judged(file, step):
            place += len(line)
            if verdict == "damaged":
                damaged.append(line)
            if verdict != "keep":
                continue
            in_one_piece &= end + len(line) == place
            end += len(line)
            if last is not None and done > last + 1:
                gaps.append(_span(last + 1, done - 1))
            last = done if last is None else max(last, done)
    if last is not None and last < step:
        gaps.append(_span(last + 1, step))
    if damaged:
        _put_beside(path, damaged)
    if gaps:
        more = f" and {len(gaps) - 3} more gaps" if len(gaps) > 3 else ""
        warn_user(
            f"the log {path} lacks steps before {step + 1}, with which the run goes "
            f"on: {', '.join(gaps[:3])}{more}. They were not logged there, or are lost."
        )
    if not in_one_piece:
        with open(path, "rb") as file:
            judged = _judged(file, step)
            replace(path, (line for line, verdict, _ in judged if verdict == "keep"))
    elif end < place:
        os.truncate(path, end)
    _end_the_last_line(path)


def _judged(file: IO[bytes], step: int) -> Iterator[tuple[bytes, _Verdict, int]]:
    """Each line, what is to become of it, and the step that it is of."""
    last = 0
    # No function of ours for each line, as above.
    for line in file:
        try:
            row = json.loads(line)
            done = int(row.get("train_step", row["step"]))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            if not line.strip() or (not line.endswith(b"\n") and last >= step):
                yield line, "drop", 0  # cut off by a kill, beyond the restored step
            else:
                yield line, "damaged", 0
        else:
            last = done
            yield line, "keep" if done <= step else "drop", done


def _put_beside(path: pathlib.Path, damaged: list[bytes]) -> None:
    beside = path.with_name(f"{path.name}.damaged")
    with open(beside, "ab") as file:
        file.writelines(line.rstrip(b"\n") + b"\n" for line in damaged)
        file.flush()
        os.fsync(file.fileno())
    what = "line is no row" if len(damaged) == 1 else "lines are no rows"
    warn_user(
        f"{len(damaged)} {what} of the log {path}, moved to {beside}. The first is "
        f"{damaged[0][:60]!r}."
    )


def _end_the_last_line(path: pathlib.Path) -> None:
    with open(path, "rb+") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _span(first: int, last: int) -> str:
    return f"step {first}" if first == last else f"steps {first} to {last}"


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
