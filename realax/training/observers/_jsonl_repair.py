"""Repair of a log of JSON lines whose run continues at an earlier step."""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import IO, Literal

from ..._errors import warn_user
from ..._storage._atomic import replace


type _Verdict = Literal["keep", "drop", "damaged"]


def truncate_after(path: pathlib.Path, step: int, since: int | None) -> None:
    """Keep the lines of a log up to `step`, and warn of damaged and missing ones.

    Damaged lines are moved to `<name>.damaged`.

    **Arguments:**

    - `path`: the log.
    - `step`: the last step to keep.
    - `since`: the step after which every step must have a line; the step of the first
        line if `None`.
    """
    end = position = 0
    contiguous, last = True, since
    damaged, gaps = list[bytes](), list[str]()
    with open(path, "rb") as file:
        for line, verdict, done in _classified(file, step):
            position += len(line)
            if verdict == "damaged":
                damaged.append(line)
            if verdict != "keep":
                continue
            contiguous &= end + len(line) == position
            end += len(line)
            if last is not None and done > last + 1:
                gaps.append(_span(last + 1, done - 1))
            last = done if last is None else max(last, done)
    if last is not None and last < step:
        gaps.append(_span(last + 1, step))
    if damaged:
        _move_damaged(path, damaged)
    if gaps:
        more = f" and {len(gaps) - 3} more gaps" if len(gaps) > 3 else ""
        warn_user(
            f"the log {path} lacks steps before {step + 1}, at which the run "
            f"continues: {', '.join(gaps[:3])}{more}. They "
            "were not logged there, or they are lost."
        )
    if not contiguous:
        with open(path, "rb") as file:
            judged = _classified(file, step)
            replace(path, (line for line, verdict, _ in judged if verdict == "keep"))
    elif end < position:
        os.truncate(path, end)
    _terminate_last_line(path)


def _classified(file: IO[bytes], step: int) -> Iterator[tuple[bytes, _Verdict, int]]:
    """Yield each line, whether to keep it, and its step."""
    last = 0
    # Inlined, because type checks of a function would take longer than a line.
    for line in file:
        try:
            row = json.loads(line)
            done = int(row.get("train_step", row["step"]))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            if not line.strip() or (not line.endswith(b"\n") and last >= step):
                yield line, "drop", 0  # cut off by a kill, after the restored step
            else:
                yield line, "damaged", 0
        else:
            last = done
            yield line, "keep" if done <= step else "drop", done


def _move_damaged(path: pathlib.Path, damaged: list[bytes]) -> None:
    target = path.with_name(f"{path.name}.damaged")
    with open(target, "ab") as file:
        file.writelines(line.rstrip(b"\n") + b"\n" for line in damaged)
        file.flush()
        os.fsync(file.fileno())
    what = "line is no row" if len(damaged) == 1 else "lines are no rows"
    warn_user(
        f"{len(damaged)} {what} of the log {path}, moved to {target}. The first is "
        f"{damaged[0][:60]!r}."
    )


def _terminate_last_line(path: pathlib.Path) -> None:
    with open(path, "rb+") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _span(first: int, last: int) -> str:
    return f"step {first}" if first == last else f"steps {first} to {last}"
