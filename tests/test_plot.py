"""Learning curves: the numbers that are drawn."""

import pathlib
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx

from .helpers import python, rastrigin


def _evolution(steps: int = 12, **kws: Any) -> rx.EvosaxTrainer[Any]:
    return rx.EvosaxTrainer(steps, "SNES", rastrigin, jnp.ones(2), popsize=8, **kws)


def _made(**metrics: Any) -> Any:
    return {"metrics": metrics, "record": None, "stopped_at": None}


def _panels(figure: Any) -> dict[str, Any]:
    return {panel.get_title(): panel for panel in figure.axes}


def _line(panel: Any) -> tuple[np.ndarray, np.ndarray]:
    (line,) = panel.lines
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def _band(panel: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps of a band, and its lower and upper edge."""
    (band,) = panel.collections
    (path,) = band.get_paths()
    points = path.vertices
    steps = np.unique(points[:, 0])
    low = [points[points[:, 0] == step, 1].min() for step in steps]
    high = [points[points[:, 0] == step, 1].max() for step in steps]
    return steps, np.array(low), np.array(high)


def test_one_number_of_each_step_is_a_line() -> None:
    _, data = _evolution().init_and_train(jr.key(0))
    panels = _panels(rx.plot.curves(data))
    assert {*panels} == {"best_fitness", "mean_fitness", "failed"}
    for name, panel in panels.items():
        steps, values = _line(panel)
        assert np.array_equal(steps, np.arange(1, 13))
        assert np.array_equal(values, np.asarray(data["metrics"][name], float))
        assert not panel.collections
        assert panel.get_xlabel() == "step"


def test_individuals_are_a_band() -> None:
    _, data = _evolution().init_and_train(jr.key(0))
    figure = rx.plot.curves(data, "fitness")
    (panel,) = figure.axes
    fitness = np.asarray(data["metrics"]["fitness"], float)
    assert np.allclose(_line(panel)[1], np.median(fitness, axis=1))
    steps, low, high = _band(panel)
    assert np.array_equal(steps, np.arange(1, 13))
    assert np.allclose(low, np.percentile(fitness, 25, axis=1))
    assert np.allclose(high, np.percentile(fitness, 75, axis=1))
    assert panel.get_ylabel() == "median and quartiles of 8"


def test_lanes_are_a_band() -> None:
    _, data = jax.vmap(_evolution().init_and_train)(jr.split(jr.key(0), 5))
    best = np.asarray(data["metrics"]["best_fitness"], float)
    assert best.shape == (5, 12)
    panels = _panels(rx.plot.curves(data, lanes=0))
    assert {*panels} == {"best_fitness", "mean_fitness", "failed"}
    steps, values = _line(panels["best_fitness"])
    assert np.array_equal(steps, np.arange(1, 13))
    assert np.allclose(values, np.median(best, axis=0))
    _, low, high = _band(panels["best_fitness"])
    assert np.allclose(low, np.percentile(best, 25, axis=0))
    assert np.allclose(high, np.percentile(best, 75, axis=0))

    (panel,) = rx.plot.curves(data, "fitness", lanes=0).axes
    fitness = np.asarray(data["metrics"]["fitness"], float)
    assert np.allclose(_line(panel)[1], np.median(fitness, axis=(0, 2)))
    assert panel.get_ylabel() == "median and quartiles of 40"

    turned = jax.tree.map(lambda x: x.swapaxes(0, 1), data["metrics"])
    other = _panels(rx.plot.curves(_made(**turned), lanes=1))
    assert {*other} == {*panels}
    for name in panels:
        assert np.array_equal(_line(other[name])[1], _line(panels[name])[1])
    with pytest.raises(ValueError, match=r"one number of each step.*\(5, 12\).*lanes="):
        rx.plot.curves(data)


def test_gradient_training() -> None:
    _, _, data = rx.optimize(jnp.ones(2), rastrigin, jr.key(0), steps=6)
    names = ["loss", "grad_norm"]
    figure = rx.plot.curves(data, names)
    assert [panel.get_title() for panel in figure.axes] == names
    assert np.allclose(_line(figure.axes[0])[1], data["metrics"]["loss"])


def test_deeper_metrics_by_name() -> None:
    data = _made(loss=jnp.zeros(3), eval_data={"length": jnp.arange(6).reshape(3, 2)})
    assert [*_panels(rx.plot.curves(data))] == ["loss"]
    (panel,) = rx.plot.curves(data, ["eval_data.length"]).axes
    assert np.array_equal(_line(panel)[1], [0.5, 2.5, 4.5])


def test_what_is_not_finite_is_left_out() -> None:
    single = jnp.array([jnp.nan, jnp.inf, 1.0, jnp.nan, 3.0])
    lanes = jnp.stack([single, jnp.full(5, jnp.nan), single + 2], axis=1)
    figure = rx.plot.curves(_made(a=single, b=lanes, c=single * jnp.nan), ["a", "b"])
    panels = _panels(figure)
    steps, values = _line(panels["a"])
    assert np.array_equal(steps, [3, 4, 5]), "it begins with the first value"
    assert np.array_equal(values, [1, np.nan, 3], equal_nan=True)
    steps, values = _line(panels["b"])
    assert np.array_equal(steps, [3, 4, 5])
    assert np.array_equal(values, [2, np.nan, 4], equal_nan=True)
    (empty,) = rx.plot.curves(_made(c=single * jnp.nan)).axes
    assert np.isnan(_line(empty)[1]).all()


def test_early_stopping_ends_the_curve() -> None:
    rule = rx.EarlyStopping(target=0.1)
    run = eqx.filter_jit(_evolution(100, callbacks=rule).init_and_train)
    state, data = run(jr.key(0))
    last = int(state.step)
    assert 1 < last < 100 and len(data["metrics"]["best_fitness"]) == 100
    (panel,) = rx.plot.curves(data, "best_fitness").axes
    steps, values = _line(panel)
    assert steps[-1] == last and values[-1] == float(state.best_fitness)


def test_a_resumed_run_starts_later() -> None:
    (panel,) = rx.plot.curves(_made(x=jnp.arange(3)), start=40).axes
    assert np.array_equal(_line(panel)[0], [41, 42, 43])


def test_there_are_not_too_many_panels() -> None:
    data = _made(**{f"m{i:02}": jnp.arange(2) for i in range(14)})
    assert [*_panels(rx.plot.curves(data))] == [f"m{i:02}" for i in range(9)]
    assert len(rx.plot.curves(data, [*data["metrics"]]).axes) == 14


def test_nothing_is_shown_or_saved() -> None:
    code = (
        "import sys, numpy as np, realax as rx\n"
        "figure = rx.plot.curves({'metrics': {'x': np.arange(3)}})\n"
        "print(type(figure).__name__, 'matplotlib.pyplot' in sys.modules)"
    )
    result = python("-c", code)
    assert result.stdout == "Figure False\n", result.stderr


def test_it_can_be_saved(tmp_path: pathlib.Path) -> None:
    figure = rx.plot.curves(_made(x=jnp.arange(3), y=jnp.ones((3, 4))), ["x", "y"])
    figure.savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "realax\[plots\]"'):
        rx.plot.curves(_made(x=jnp.arange(3)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": jnp.zeros(3)}, "`data` of `curves` must be the record of a run"),
        ({"data": {"loss": jnp.zeros(3)}}, "with its 'metrics'.*second result"),
        ({"metrics": "los"}, "`metrics`: there is no 'los'.*Closest: 'loss'"),
        ({"metrics": ["loss", "aux"]}, "'aux' holds 2: 'aux.a', 'aux.b'"),
        ({"metrics": []}, "`metrics` of `curves` must be a name of a metric or a list"),
        ({"metrics": [3]}, "`metrics` of `curves` must be names"),
        ({"metrics": "key"}, "'key' must hold numbers"),
        ({"metrics": "one"}, r"'one' must hold numbers of each step, .* shape \(\)"),
        ({"metrics": "loss", "lanes": 0}, r"lanes at axis 0, but got shape \(3,\)"),
        ({"lanes": 2}, "`lanes` of `curves` must be the axis of the lanes, 0 for"),
        ({"lanes": True}, "`lanes` of `curves` must be the axis of the lanes"),
        ({"start": -1}, "`start` of `curves` must be a whole number of at least 0"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str) -> None:
    data = _made(
        loss=jnp.zeros(3),
        aux={"a": jnp.zeros(3), "b": jnp.zeros(3)},
        key=jr.split(jr.key(0), 3),
        one=jnp.zeros(()),
    )
    with pytest.raises((TypeError, ValueError), match=message):
        rx.plot.curves(**{"data": data, **arguments})


def _archive_state(archive: Any, steps: int = 5) -> Any:
    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(x**2), {"descriptor": x[: archive.dims]}

    trainer = rx.QDTrainer(steps, task, jnp.zeros(3), archive=archive)
    return trainer.init_and_train(jr.key(0))[0]


def test_a_grid_is_a_picture_of_its_boxes() -> None:
    state = _archive_state(rx.GridArchive((4, 6), (-1.0, -2.0), (1.0, 2.0)))
    figure = rx.plot.archive(state, labels=("left", "up"), limits=(0.0, 3.0))
    panel = figure.axes[0]
    (image,) = panel.images
    shown: Any = image.get_array()
    expected = np.asarray(state.fitness).reshape(4, 6).T
    assert shown.shape == (6, 4)
    assert np.allclose(np.ma.filled(shown, np.nan), expected, equal_nan=True)
    assert image.get_extent() == [-1, 1, -2, 2] and image.get_clim() == (0.0, 3.0)
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("left", "up")
    assert f"of {state.elites.archive.cells} cells" in panel.get_title()


def test_voronoi_cells_are_drawn_as_they_are() -> None:
    archive = rx.CVTArchive(30, (-1.0, 0.0), (1.0, 4.0))
    state = _archive_state(archive)
    figure = rx.plot.archive(state)
    (cells,) = figure.axes[0].collections
    paths = cells.get_paths()
    assert len(paths) == 30
    for path, centre in zip(paths, np.asarray(archive.centroids), strict=True):
        assert path.contains_point(centre)

    # They fill the box, and points within belong to the cell of the archive.
    def area(corners: Any) -> float:
        x, y = corners.T
        return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2

    assert sum(area(path.vertices[:-1]) for path in paths) == pytest.approx(8, rel=1e-3)
    points = np.random.default_rng(0).uniform((-1, 0), (1, 4), (100, 2))
    for point in points:
        (inside,) = [i for i, path in enumerate(paths) if path.contains_point(point)]
        assert int(archive.cell(jnp.asarray(point, float))) == inside


@pytest.mark.parametrize("spacing", [0.3, 100.0])
def test_an_unstructured_archive_is_points(spacing: float) -> None:
    state = _archive_state(rx.UnstructuredArchive(40, spacing))
    figure = rx.plot.archive(state)
    (points,) = figure.axes[0].collections
    filled = np.asarray(state.filled)
    assert np.array_equal(points.get_offsets(), np.asarray(state.descriptor)[filled])
    assert np.array_equal(points.get_array(), np.asarray(state.fitness)[filled])


def test_an_archive_of_one_entry(tmp_path: pathlib.Path) -> None:
    state = _archive_state(rx.GridArchive((10,), -1.0, 1.0))
    figure = rx.plot.archive(state)
    (line,) = figure.axes[0].lines
    assert len(line.get_xdata()) == int(state.filled.sum())
    figure.savefig(tmp_path / "archive.png")


def test_bad_archives() -> None:
    state = _archive_state(rx.GridArchive((3, 3, 3), -1.0, 1.0))
    with pytest.raises(ValueError, match="one or two entries to be drawn, but got 3"):
        rx.plot.archive(state)
    state = _archive_state(rx.GridArchive((3, 3), -1.0, 1.0))
    with pytest.raises(TypeError, match="must be the state of a `QDTrainer`, but got"):
        rx.plot.archive(state.elites)
    with pytest.raises(ValueError, match="`labels` .* must be 2, .* but got 1"):
        rx.plot.archive(state, labels=["x"])
    for limits in (1.0, 0.0), (1.0,):
        with pytest.raises(ValueError, match=r"`limits` .* must be .*\(low, high\)"):
            rx.plot.archive(state, limits=limits)
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    with pytest.raises(ValueError, match="must be one state, but got 2 side by side"):
        rx.plot.archive(stacked)
