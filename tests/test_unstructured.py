"""The unstructured archive: where it founds cells, and what enters them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import realax as rx
from realax.training.qd._elites import inserted, no_elites

from .helpers import close
from .test_qd import arm


SPACING, CELLS, ROWS = 1.5, 5, 6
_insert = jax.jit(inserted)


def reference(
    points: list[Any], kept: dict[int, Any], rows: Any, scale: Any
) -> tuple[dict[int, Any], list[bool]]:
    """Found cells and insert one after the other, in plain Python.

    `points` grows, as the first descriptors of the cells do.
    """

    def distances(place: Any) -> list[float]:
        return [float(np.linalg.norm(place - point)) for point in points]

    places = [np.asarray(row[1]) / scale for row in rows]
    for place, (_, _, usable) in zip(places, rows, strict=True):
        far = all(distance > SPACING for distance in distances(place))
        if usable and far and len(points) < CELLS:
            points.append(place)
    kept, winner = dict(kept), dict[int, int]()
    for i, (quality, descriptor, usable) in enumerate(rows):
        if not usable:
            continue
        cell = int(np.argmin(distances(places[i])))
        if cell not in kept or quality > kept[cell][0]:
            kept[cell], winner[cell] = (quality, descriptor), i
    return kept, [i in winner.values() for i in range(len(rows))]


_row = st.tuples(
    st.sampled_from([-2.0, -1.0, 0.0, 1.0]),  # ties are frequent
    st.tuples(st.integers(-3, 3), st.integers(-2, 2)),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(_row, min_size=ROWS, max_size=ROWS), max_size=4))
def test_insertion_is_a_plain_loop(generations: Any) -> None:
    scale = np.array([1.0, 2.0])
    archive = rx.UnstructuredArchive(CELLS, SPACING, scale=(1.0, 2.0))
    elites = no_elites(archive, jnp.zeros(1), {})
    points, kept = list[Any](), dict[int, Any]()
    for rows in generations:
        kept, added = reference(points, kept, rows, scale)
        qualities, descriptors, usable = zip(*rows, strict=True)
        elites, told = _insert(
            elites,
            jnp.zeros((ROWS, 1)),
            jnp.asarray(qualities),
            jnp.asarray(descriptors, float),
            jnp.asarray(usable),
            {},
        )
        assert told.added.tolist() == added
        grown: Any = elites.archive
        assert int(grown.founded) == len(points)
        assert np.flatnonzero(elites.filled).tolist() == [*range(len(points))]
        for cell, (quality, descriptor) in kept.items():
            assert float(elites.quality[cell]) == quality
            assert elites.descriptor[cell].tolist() == list(descriptor)
        if points:
            found = np.asarray(grown.centroids)[: len(points)]
            assert np.allclose(found, np.stack(points) * scale)
            assert not np.any(grown.centroids[len(points) :])


def trainer(steps: int = 60, cells: int = 200, spacing: float = 0.8, **kws: Any) -> Any:
    archive = rx.UnstructuredArchive(cells, spacing)
    given: dict[str, Any] = {"archive": archive, "popsize": 30}
    return rx.QDTrainer(steps, arm, jnp.zeros(6), **{**given, **kws})


def points_of(state: Any) -> Any:
    return state.elites.archive.points


@functools.cache
def usual() -> Any:
    return trainer(record=points_of).init_and_train(jr.key(0))


def test_cells_are_apart_and_stay() -> None:
    state, data = usual()
    archive = state.elites.archive
    founded = int(archive.founded)
    assert 40 < founded < 200
    points = np.asarray(archive.points)[:founded]
    gaps = np.linalg.norm(points[:, None] - points, axis=-1)
    assert gaps[~np.eye(founded, dtype=bool)].min() > 0.8
    # Farther from the first one of its cell, it would have founded another.
    held = np.asarray(state.descriptor)[:founded]
    assert np.linalg.norm(held - points, axis=-1).max() <= 0.8
    for before, after in zip(data["record"][:-1], data["record"][1:], strict=True):
        used = np.any(np.asarray(before) != 0, axis=-1)
        assert np.array_equal(before[used], after[used])
    metrics = data["metrics"]
    assert np.array_equal(state.filled, np.arange(200) < founded)
    assert float(metrics["coverage"][-1]) == pytest.approx(founded / 200)
    assert (np.diff(metrics["coverage"]) >= 0).all()
    assert int(metrics["outside"].sum()) == 0
    values, aux = jax.vmap(arm)(state.archive.params)
    assert np.allclose(values[:founded], state.fitness[:founded], atol=1e-5)
    assert np.allclose(aux["descriptor"][:founded], held, atol=1e-5)


def test_a_full_archive_still_improves() -> None:
    full = trainer(cells=10, spacing=0.3, qd_offset=10.0)
    state, data = full.init_and_train(jr.key(0))
    assert data["metrics"]["coverage"][0] == 1.0
    score = np.asarray(data["metrics"]["qd_score"])
    assert score[-1] > score[0] and (np.diff(score) >= 0).all()
    assert int(state.elites.archive.founded) == 10


def test_what_fails_founds_no_cell() -> None:
    def fails(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.nan * x[0], {"descriptor": x[:2]}

    failing = rx.QDTrainer(
        2, fails, jnp.zeros(3), archive=rx.UnstructuredArchive(5, 0.1), popsize=4
    )
    state = failing.init_and_train_(jr.key(0))
    assert int(state.elites.archive.founded) == 0 and not np.any(state.filled)


def test_derivatives_over_two_devices() -> None:
    one, two = (trainer(5, emitter="omg_mega", n_devices=n) for n in (1, 2))
    assert close(two.init_and_train_(jr.key(0)), one.init_and_train_(jr.key(0)))


@pytest.mark.parametrize("dims", [1, 3])
def test_a_cell_is_that_of_the_nearest_first_one(dims: int) -> None:
    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(x**2), {"descriptor": x[:dims]}

    archive = rx.UnstructuredArchive(100, 0.5, dims)
    made = rx.QDTrainer(20, task, jnp.zeros(4), archive=archive, popsize=20)
    grown: Any = made.init_and_train_(jr.key(0)).elites.archive
    points = np.asarray(grown.centroids)[: int(grown.founded)]
    places = np.random.default_rng(0).normal(size=(200, dims)).astype(np.float32)
    expected = np.linalg.norm(places[:, None] - points, axis=-1).argmin(axis=1)
    found = jax.jit(jax.vmap(grown.cell))(jnp.asarray(places))
    assert np.mean(np.asarray(found) == expected) > 0.99  # ties up to rounding


def test_emitters_of_qdax_are_refused() -> None:
    from qdax.core.emitters.mutation_operators import isoline_variation
    from qdax.core.emitters.standard_emitters import MixingEmitter

    vary = functools.partial(isoline_variation, iso_sigma=0.1, line_sigma=0.1)
    emitter = MixingEmitter(lambda x, key: x, vary, 1.0, 30)
    with pytest.raises(ValueError, match="fixed cells for an emitter of qdax"):
        trainer(1, emitter=emitter).init_and_train_(jr.key(0))


@pytest.mark.parametrize(
    ("kws", "message"),
    [
        ({"cells": 0}, "`cells` of `UnstructuredArchive` must be a whole number of at"),
        (
            {"spacing": 0.0},
            "`spacing` .* of at least 1e-15 and at most 1e.15, but got 0",
        ),
        (
            {"spacing": 1e20},
            "`spacing` .* at least 1e-15 and at most 1e.15, but got 1e",
        ),
        (
            {"scale": (1.0, -1.0)},
            r"`scale` .* from 1e-15 to 1e.15, but got \[1.0, -1.0",
        ),
        ({"scale": 1e-50}, "`scale` .* must be from 1e-15 to 1e.15, but got 1e-50"),
        ({"scale": jnp.ones(3)}, "`scale` .* must be one number, or 2, one for each"),
        ({"scale": jnp.inf}, "`scale` .* must be finite, but got inf"),
    ],
)
def test_wrong_arguments(kws: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rx.UnstructuredArchive(**{"cells": 5, "spacing": 1.0, **kws})
