"""A folder of checkpoints, and how one is read by hand."""

import math
import pathlib
import re
from collections.abc import Mapping
from typing import Literal

from ..._arguments import arguments, one_of, path as path_, text
from ..._errors import warn_user
from ..._storage._files import CorruptFileError, Stored, read


_NAME = "step_{:010d}.ckpt"
_PATTERN = re.compile(r"step_(\d{10})\.ckpt")


def file_of(folder: pathlib.Path, step: int) -> pathlib.Path:
    """The checkpoint of a step."""
    return folder / _NAME.format(step)


def steps_in(folder: pathlib.Path) -> list[int]:
    """The steps of which there are checkpoints, oldest first."""
    matches = (_PATTERN.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in matches if match is not None)


def ranked(values: Mapping[int, float], mode: str) -> list[int]:
    """The steps of which there are values, the best one first: a NaN is none."""
    usable = [step for step, value in values.items() if math.isfinite(value)]
    return sorted(usable, key=lambda step: values[step], reverse=mode == "max")


@arguments(path=path_, at=text, which=one_of("newest", "best"))
def load_checkpoint[T](
    path: str | pathlib.Path,
    like: T,
    at: str = "state",
    *,
    which: Literal["newest", "best"] = "newest",
) -> T:
    """Read a checkpoint by hand, whole or in part.

    **Arguments:**

    - `path`: the folder of a `Checkpointer`, or one of the files in it.
    - `like`: a tree with arrays of the same paths, shapes and dtypes: a whole state,
        such as `trainer.initialize(key)`, or one with `None` for what is not wanted.
        What is read lies on the devices on which it lies.
    - `at`: where `like` belongs in the checkpoint: `"state"` is the whole state,
        `"state.es_state"` a part of it, `"key"` the run's key.
    - `which`: of a folder: the `"newest"` one, or the `"best"` by the metric by which
        the `Checkpointer` kept it.

    **Returns:** `like` with the arrays from the checkpoint.

    **Raises:** `FileNotFoundError`; `CorruptFileError` where the file is not as it was
    written; `ValueError` that lists the arrays that differ, by path, with shapes.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        if which == "best":
            raise ValueError(
                f"`which` of `load_checkpoint` must be 'newest' for one file, but got "
                f"'best' for {path}. Give the folder of the `Checkpointer`."
            )
        return read(path).fill(at, like)
    steps = steps_in(path)
    stored = _first(path, steps[::-1])
    if stored is None:
        raise FileNotFoundError(f"there is no checkpoint that can be read in {path}.")
    if which == "best":
        stored = _best(path, stored, steps)
    return stored.fill(at, like)


def _best(folder: pathlib.Path, newest: Stored, steps: list[int]) -> Stored:
    metric, mode = newest.meta["objective"]
    values = {int(k): v for k, v in newest.meta["values"].items() if int(k) in steps}
    best = _first(folder, ranked(values, mode))
    if best is None:
        raise FileNotFoundError(
            f"no checkpoint that can be read in {folder} has a finite {metric!r}, by "
            "which the best one is chosen. Load the newest one: `which='newest'`."
        )
    return best


def _first(folder: pathlib.Path, steps: list[int]) -> Stored | None:
    """The first checkpoint that can be read, with a warning for those before it."""
    for step in steps:
        try:
            return read(file_of(folder, step))
        except CorruptFileError as error:
            warn_user(f"{error} The next one is used, if there is one.")
    return None
