"""Reading a checkpoint without a run."""

import pathlib
from typing import Literal

from ..._arguments import arguments, one_of, path as path_, text
from ..._errors import warn_user
from ..._storage._files import CorruptFileError, Stored, read
from ._folder import file_of, rank, steps_in


@arguments(path=path_, at=text, which=one_of("newest", "best"))
def load_checkpoint[T](
    path: str | pathlib.Path,
    like: T,
    at: str = "state",
    *,
    which: Literal["newest", "best"] = "newest",
) -> T:
    """Read a checkpoint, or a part of one.

    **Arguments:**

    - `path`: the folder of a `Checkpointer`, or one of the files in it.
    - `like`: a tree with arrays of the same paths, shapes and dtypes: a whole state,
        such as `trainer.initialize(key)`, or one with `None` for the parts to omit.
        The arrays are put on the devices of those in `like`.
    - `at`: the part of the checkpoint to read: `"state"` is the whole state,
        `"state.es_state"` a part of it, and `"key"` the run's key.
    - `which`: the checkpoint to read from a folder: the `"newest"` one, or the `"best"`
        one by the metric of the `Checkpointer`.

    **Returns:** `like` with the arrays from the checkpoint.

    **Raises:** `FileNotFoundError` if there is no checkpoint; `CorruptFileError` if the
    file was altered; `MisfitError` that lists the arrays that differ, by path, with
    their shapes.
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
    stored = _first_readable(path, steps[::-1])
    if stored is None:
        raise FileNotFoundError(f"there is no checkpoint that can be read in {path}.")
    if which == "best":
        stored = _best(path, stored, steps)
    return stored.fill(at, like)


def _best(folder: pathlib.Path, newest: Stored, steps: list[int]) -> Stored:
    """Return the best checkpoint by the values that the newest one lists."""
    metric, mode = newest.meta["objective"]
    values = {int(k): v for k, v in newest.meta["values"].items() if int(k) in steps}
    best = _first_readable(folder, rank(values, mode))
    if best is None:
        raise FileNotFoundError(
            f"no checkpoint that can be read in {folder} has a finite {metric!r}, by "
            "which the best one is chosen. Load the newest one: `which='newest'`."
        )
    return best


def _first_readable(folder: pathlib.Path, steps: list[int]) -> Stored | None:
    """Return the first checkpoint that can be read, and warn of those before it."""
    for step in steps:
        try:
            return read(file_of(folder, step))
        except CorruptFileError as error:
            warn_user(f"{error} The next one is used, if there is one.")
    return None
