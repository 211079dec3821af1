"""Summaries of runs side by side."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Array

from .._errors import describe
from ..training import AbstractTrainer, Record
from ..training._metrics import entries_of, entry_of


@dataclasses.dataclass(frozen=True)
class Row:
    """The summary of a lane.

    - `lane`: its number.
    - `values`: the values of the numbers in which lanes differ, by their names.
    - `seed`: the number of its seed.
    - `final`: the last value of the objective.
    - `best`: the best one that is not NaN, or NaN.
    """

    lane: int
    values: dict[str, Any]
    seed: int
    final: float
    best: float


@dataclasses.dataclass(frozen=True)
class Table:
    """A summary of runs side by side, which `print` shows as a table.

    `pandas.DataFrame(table.columns)` makes a data frame.

    - `rows`: a row for each lane.
    - `metric`, `mode`: the objective, and `"min"` or `"max"`.
    """

    rows: tuple[Row, ...]
    metric: str
    mode: str

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The columns by their names."""
        found: dict[str, list[Any]] = {"lane": [row.lane for row in self.rows]}
        for name in self.rows[0].values:
            found[name] = [row.values[name] for row in self.rows]
        found["seed"] = [row.seed for row in self.rows]
        found["final"] = [row.final for row in self.rows]
        found["best"] = [row.best for row in self.rows]
        return found

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, lane: int) -> Row:
        return self.rows[lane]

    def __str__(self) -> str:
        columns = self.columns
        for name in "final", "best":
            columns[f"{name} {self.metric}"] = columns.pop(name)
        texts = [[name, *map(_shown, column)] for name, column in columns.items()]
        widths = [max(map(len, column)) for column in texts]
        lines = zip(*texts, strict=True)
        return "\n".join(
            "  ".join(
                text.rjust(width) for text, width in zip(line, widths, strict=True)
            )
            for line in lines
        )


@dataclasses.dataclass(frozen=True)
class Best[P]:
    """The best lane of a run.

    - `lane`: its number.
    - `value`: its best value of the objective.
    - `trainer`: its own trainer.
    - `params`: its best parameters.
    """

    lane: int
    value: float
    trainer: AbstractTrainer[Any, Any, P]
    params: P


def a_run(phrase: str, value: Any) -> Any:
    """Check that a value is the record of a run."""
    if not isinstance(value, Mapping) or "metrics" not in value:
        raise TypeError(
            f"{phrase} must be the record of a run, the second value that `train` and "
            f"`init_and_train` return, but got {describe(value)}."
        )
    return value


def table_of(
    values: Mapping[str, Array],
    seeds: list[int],
    data: Record[Any],
    objective: tuple[str, str],
) -> Table:
    """Return the summary of a run.

    **Arguments:**

    - `values`: the values in which lanes differ, with a leading axis of lanes.
    - `seeds`: the number of the seed of each lane.
    - `data`: the record of the run.
    - `objective`: the name of a metric, and `"min"` or `"max"`.

    **Raises:** `ValueError` for the record of a run without a step, or of another
    trainer.
    """
    metric, mode = objective
    curves = np.asarray(entry_of(entries_of(data["metrics"]), metric), float)
    if curves.shape[1:2] != (len(seeds),):
        raise ValueError(
            f"`data` must be the record of a run of these {len(seeds)} lanes, whose "
            f"metrics have the axes (steps, lanes), but got {metric!r} of shape "
            f"{curves.shape}."
        )
    if len(curves) == 0:
        raise ValueError(
            "`data` must be the record of a run with at least one step, but got one of "
            "none. Pass the record of the run before."
        )
    curves = curves.reshape(*curves.shape[:2], -1).mean(-1)
    worst = np.inf if mode == "min" else -np.inf
    known = np.where(np.isnan(curves), worst, curves)
    best = known.min(0) if mode == "min" else known.max(0)
    best = np.where(best == worst, np.nan, best)
    rows = tuple(
        Row(
            lane=i,
            values={name: _plain(column[i]) for name, column in values.items()},
            seed=seed,
            final=float(curves[-1, i]),
            best=float(best[i]),
        )
        for i, seed in enumerate(seeds)
    )
    return Table(rows, metric, mode)


def best_lane(table: Table) -> tuple[int, float]:
    """Return the number of the best lane, and its value.

    **Raises:** `ValueError` if no lane ever had a finite value.
    """
    known = [row for row in table if np.isfinite(row.best)]
    if not known:
        raise ValueError(
            f"no lane ever had a finite {table.metric!r}, so that none is the best."
        )
    choose = min if table.mode == "min" else max
    row = choose(known, key=lambda row: row.best)
    return row.lane, row.best


def _plain(value: Any) -> Any:
    return np.asarray(value).tolist()


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
