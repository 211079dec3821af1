"""The rows of a log, from what was selected of the steps of a chunk."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._jsonl import Row
from ._run import Measured


def rows_of(
    steps: np.ndarray, selected: Any, lanes: tuple[str, ...], before: np.ndarray
) -> list[tuple[int, int, Row]]:
    """Return the rows of a chunk.

    **Arguments:**

    - `steps`: the numbers of its steps.
    - `selected`: what `Logged` selected of each of them.
    - `lanes`: the names of runs side by side, if there are some.
    - `before`: the number of steps before the chunk, of each lane.

    **Returns:** For each step its number, the number to log it under, and its row. With
    lanes there is one for each lane that was not over, with its number as `"lane"`.
    """
    names = list(selected["row"])
    columns = [selected["row"][name].tolist() for name in names]
    logged = selected["step"].tolist()
    if not lanes:
        rows = [
            dict(zip(names, values, strict=True))
            for values in (zip(*columns, strict=True) if names else [()] * len(steps))
        ]
        return list(zip(steps.tolist(), logged, rows, strict=True))
    found = list[tuple[int, int, Row]]()
    counts = np.concatenate([before[None], selected["steps"]])
    going = np.diff(counts, axis=0) > 0
    for i, trained in enumerate(steps.tolist()):
        for lane in np.flatnonzero(going[i]).tolist():
            values = (column[i][lane] for column in columns)
            row = {**dict(zip(names, values, strict=True)), "lane": lane}
            found.append((trained, logged[i][lane], row))
    return found


def joined(row: Row, measured: Mapping[str, Measured]) -> Row:
    """Return the row of a step with the numbers that observers measured at it.

    The row of a lane gets its own, where there is one for each.

    **Raises:** `ValueError` for a number whose name the row has too.
    """
    for name in measured:
        if name in row or name in ("step", "train_step"):
            raise ValueError(
                f"an observer measures {name!r}, but the row of a log has an entry of "
                "that name already. Give the observer's another name, such as "
                '`Evaluator(name="test_return")`, or leave it out of `metrics_fn`.'
            )
    own = {
        name: float(value[row["lane"]]) if isinstance(value, np.ndarray) else value
        for name, value in measured.items()
    }
    return {**row, **own}
