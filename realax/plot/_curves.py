"""Learning curves."""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from .._arguments import arguments, whole
from .._errors import describe
from ..training._metrics import entries_of, entry_of


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any  # `import realax` does not wait for matplotlib

# The largest number of panels that are drawn without being asked for.
_PANELS = 9


def _record(phrase: str, value: Any) -> Any:
    if not isinstance(value, Mapping) or "metrics" not in value:
        raise TypeError(
            f"{phrase} must be the record of a run, with its 'metrics', but got "
            f"{describe(value)}. It is the second result of `trainer.init_and_train`."
        )
    return value


def _names(phrase: str, value: Any) -> list[str] | None:
    names = [value] if isinstance(value, str) else value
    if names is None:
        return None
    if not isinstance(names, Sequence) or not names:
        raise TypeError(
            f"{phrase} must be a name of a metric or a list of names, but got "
            f"{describe(value)}."
        )
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{phrase} must be names, but got {describe(name)}.")
    return list(names)


def _lanes(phrase: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or value not in (0, 1):
        raise ValueError(
            f"{phrase} must be the axis of the lanes, 0 for "
            "`jax.vmap(trainer.init_and_train)` or 1 where steps come first, or None "
            f"for a single run, but got {describe(value)}."
        )
    return operator.index(value)


@arguments(data=_record, metrics=_names, lanes=_lanes, start=whole(0))
def curves(
    data: Mapping[str, Any],
    metrics: str | Sequence[str] | None = None,
    *,
    lanes: Literal[0, 1] | None = None,
    start: SupportsIndex = 0,
) -> Figure:
    """Draw the learning curves of a run: a panel for each metric, by steps.

    A metric that is one number of each step is a line. One that has several, because of
    lanes or of other axes such as the individuals of a generation, is its median with a
    band from the first to the third quartile. Numbers that are not finite are left out.

    Nothing is shown or saved. A script calls `figure.savefig("curves.png")`; a notebook
    shows the figure at the end of a cell once `matplotlib.pyplot` is imported.

    **Arguments:**

    - `data`: the `Record` of a run.
    - `metrics`: the names of the metrics to draw, one or several, with dots to deeper
        ones: `"eval_data.length"`. If `None`, the first nine that are one number of
        each step (and lane), and no flag.
    - `lanes`: the axis of the lanes in each metric: 0 for the result of
        `jax.vmap(trainer.init_and_train)(keys)`, of shape `(lanes, steps, ...)`; 1 for
        a trainer that has lanes of its own, of shape `(steps, lanes, ...)`; `None` for
        one run, of shape `(steps, ...)`. Shapes alone do not tell.
    - `start`: the number of steps before the first one of `data`, for the record of a
        resumed run.

    **Returns:** A figure of matplotlib.

    **Raises:** `ImportError` without matplotlib; `TypeError` or `ValueError` that names
    the argument and says what to do.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            '`rx.plot` needs matplotlib: `pip install "realax[plots]"`.'
        ) from error

    entries = entries_of(data["metrics"])
    names = metrics or _single_numbers(entries, lanes)
    done = operator.index(start)
    tables = [_table(name, entries, lanes)[: _steps(data, done)] for name in names]
    columns = len(names) if len(names) <= 3 else math.ceil(math.sqrt(len(names)))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(names) :]:
        panel.remove()
    for panel, name, table in zip(panels, names, tables, strict=False):
        _draw(panel, table, done)
        panel.set(xlabel="step", title=name)
        panel.grid(alpha=0.3)
    return figure


def _single_numbers(entries: Mapping[str, Any], lanes: int | None) -> list[str]:
    """Return the names of the first metrics that are one number of each step."""
    axes = 1 if lanes is None else 2
    found = [
        name
        for name, value in entries.items()
        if "." not in name
        and value.ndim == axes
        and jnp.issubdtype(value.dtype, jnp.number)
    ]
    if not found:
        shapes = (f"{name!r} {np.shape(value)}" for name, value in entries.items())
        where = "step" if lanes is None else "step and lane"
        raise ValueError(
            f"`data` of `curves` must hold a metric that is one number of each {where} "
            f"where `metrics` is None, but got the shapes {', '.join(shapes)}. Choose "
            "some by `metrics=`, or say by `lanes=` which axis the lanes have: 0 for "
            "the result of `jax.vmap(trainer.init_and_train)`."
        )
    return found[:_PANELS]


def _table(name: str, entries: Mapping[str, Any], lanes: int | None) -> np.ndarray:
    """Return the numbers of a metric, a row for each step; NaN if not finite."""
    value = entry_of(entries, name, "metrics")
    phrase = f"the metric {name!r} must hold numbers of each step"
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise TypeError(f"{phrase}, but got {describe(value)}.")
    array = np.asarray(value, np.float64)
    if array.ndim < (1 if lanes is None else 2) or 0 in array.shape:
        of_lanes = "" if lanes is None else f", and lanes at axis {lanes}"
        raise ValueError(f"{phrase}{of_lanes}, but got shape {array.shape}.")
    if lanes == 0:
        array = np.moveaxis(array, 1, 0)
    return np.where(np.isfinite(array), array, np.nan).reshape(len(array), -1)


def _steps(data: Mapping[str, Any], done: int) -> int | None:
    """Return how many rows there are before those that early stopping repeats."""
    stopped = data.get("stopped_at")
    return None if stopped is None else max(1, int(np.max(stopped)) - done)


def _draw(panel: Axes, table: np.ndarray, done: int) -> None:
    known = ~np.isnan(table).all(axis=1)
    quartiles = np.full((3, len(table)), np.nan)
    # The one that looks for NaN is slow.
    quantile = np.nanquantile if np.isnan(table).any() else np.quantile
    quartiles[:, known] = quantile(table[known], [0.25, 0.5, 0.75], axis=1)
    # NaN before the first value would only widen the axis.
    begin = int(np.argmax(known))
    low, median, high = quartiles[:, begin:]
    steps = done + 1 + np.arange(begin, len(table))
    (line,) = panel.plot(steps, median)
    if (number := table.shape[1]) > 1:
        panel.fill_between(steps, low, high, color=line.get_color(), alpha=0.25, lw=0)
        panel.set_ylabel(f"median and quartiles of {number}")
