"""Pictures of archives."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arguments import arguments
from .._errors import describe
from ..training import GridArchive, QDState


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any  # `import realax` does not wait for matplotlib


def _state(phrase: str, value: Any) -> QDState[Any]:
    if not isinstance(value, QDState):
        raise TypeError(
            f"{phrase} must be the state of a `QDTrainer`, but got {describe(value)}."
        )
    if value.step.ndim:
        raise ValueError(
            f"{phrase} must be one state, but got {value.step.shape[0]} side by side. "
            "Take one of them: `trainer.lane(state, 0)`, or by `jax.tree.map`."
        )
    dims = value.elites.archive.dims
    if dims > 2:
        raise ValueError(
            f"{phrase} must have descriptors of one or two entries to be drawn, but "
            f"got {dims}. Draw `state.descriptor` and `state.fitness` by two of them."
        )
    return value


def _labels(phrase: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) or not all(isinstance(one, str) for one in value):
        raise TypeError(
            f"{phrase} must be a name for each entry of the descriptor, but got "
            f"{describe(value)}."
        )
    return tuple(value)


def _limits(phrase: str, value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    pair = np.asarray(value)
    if pair.shape != (2,) or pair.dtype.kind not in "iuf" or not pair[0] < pair[1]:
        raise ValueError(
            f"{phrase} must be the fitness at both ends of the colours, (low, high), "
            f"but got {describe(value)}."
        )
    return float(pair[0]), float(pair[1])


@arguments(state=_state, labels=_labels, limits=_limits)
def archive(
    state: QDState[Any],
    *,
    labels: Sequence[str] | None = None,
    limits: Sequence[float] | None = None,
) -> Figure:
    """Draw an archive: the fitness of the elite of each cell, by descriptor.

    A grid is a picture of its boxes, and Voronoi cells are drawn as they are. Empty
    cells are white. Elites of an archive that grows are points where their
    descriptors are. With one entry, elites are points of fitness by descriptor.

    Nothing is shown or saved. A script calls `figure.savefig("archive.png")`; a
    notebook shows the figure at the end of a cell once `matplotlib.pyplot` is imported.

    **Arguments:**

    - `state`: the state of a `QDTrainer`, with descriptors of one or two entries.
    - `labels`: the names of the entries of a descriptor.
    - `limits`: the fitness at both ends of the colours, such as to compare pictures; by
        default, that of the worst and the best elite.

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

    cells = state.elites.archive
    given = cells.dims if labels is None else len(labels)
    if given != cells.dims:
        raise ValueError(
            f"`labels` of `archive` must be {cells.dims}, one for each entry of a "
            f"descriptor, but got {given}."
        )
    names = labels or [f"descriptor[{i}]" for i in range(cells.dims)]
    fitness = np.asarray(state.fitness, np.float64)
    lower, upper = np.asarray(cells.lower), np.asarray(cells.upper)
    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    panel = figure.subplots()
    filled = np.asarray(state.filled)
    places = np.asarray(state.descriptor)[filled]
    panel.set(xlabel=names[0])
    if not cells.grows:
        places = np.clip(places, lower, upper)
        panel.set(xlim=(lower[0], upper[0]))
    panel.set_title(f"{filled.mean():.1%} of {len(filled)} cells filled")
    if cells.dims == 1:
        panel.plot(places[:, 0], fitness[filled], ".")
        panel.set(ylabel="fitness", ylim=limits)
        return figure
    low, high = limits or _range(fitness[filled])
    panel.set(ylabel=names[1])
    if not cells.grows:
        panel.set(ylim=(lower[1], upper[1]))
    if cells.grows:
        colours = {"c": fitness[filled], "vmin": low, "vmax": high}
        picture = panel.scatter(*places.T, s=8, **colours)
    elif isinstance(cells, GridArchive):
        picture = panel.imshow(
            fitness.reshape(cells.shape).T,
            origin="lower",
            extent=(lower[0], upper[0], lower[1], upper[1]),
            aspect="auto",
            vmin=low,
            vmax=high,
        )
    else:
        shares = np.asarray(cells.share(cells.centroids), np.float64)
        corners = [lower + one * (upper - lower) for one in _polygons(shares)]
        picture = _draw(panel, corners, fitness, low, high)
    figure.colorbar(picture, label="fitness")
    return figure


def _range(fitness: np.ndarray) -> tuple[float, float]:
    return (fitness.min(), fitness.max()) if len(fitness) else (0.0, 1.0)


def _polygons(points: np.ndarray) -> list[np.ndarray]:
    """Return the Voronoi cells of points in the unit square, as their corners."""
    from scipy.spatial import Voronoi

    # The cells of their mirror images border on the square's sides.
    mirrored = [points]
    for axis in 0, 1:
        for side in 0.0, 1.0:
            image = points.copy()
            image[:, axis] = 2 * side - image[:, axis]
            mirrored.append(image)
    found = Voronoi(np.concatenate(mirrored))
    regions = (found.regions[found.point_region[i]] for i in range(len(points)))
    return [np.clip(found.vertices[region], 0, 1) for region in regions]


def _draw(
    panel: Axes, corners: list[np.ndarray], fitness: np.ndarray, low: float, high: float
) -> Any:
    from matplotlib.collections import PolyCollection

    cells = PolyCollection(corners, array=fitness, edgecolors="face", linewidths=0.2)
    cells.set_clim(low, high)
    panel.add_collection(cells)
    return cells
