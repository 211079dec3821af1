"""Quality diversity: archives, insertion, emitters, and what a run does with faults."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import realax as rx
from realax.training.qd._cma import Distributions
from realax.training.qd._cma_emitter import ranks
from realax.training.qd._elites import inserted, no_elites

from .helpers import close, python, same


def arm(angles: Any, key: Any = None, data: Any = None) -> Any:
    """The arm of pyribs' tutorial: equal angles are best; where its hand is."""
    total = jnp.cumsum(angles)
    hand = jnp.stack([jnp.sum(jnp.cos(total)), jnp.sum(jnp.sin(total))])
    return jnp.var(angles), {"descriptor": hand}


def trainer(steps: int = 20, emitter: Any = "iso_line", **more: Any) -> Any:
    given = {
        "task": arm,
        "params_like": jnp.zeros(6),
        "archive": rx.GridArchive((10, 12), -6.0, 6.0),
        "popsize": 30,
        "qd_offset": 10.0,
    }
    return rx.QDTrainer(steps, emitter=emitter, **{**given, **more})


@functools.cache
def usual() -> Any:
    return trainer().init_and_train(jr.key(0))


_arms = jax.jit(jax.vmap(arm))


@eqx.filter_jit
def _cells(archive: Any, descriptors: Any) -> Any:
    return jax.vmap(archive.cell)(descriptors)


def cells(archive: Any, descriptors: Any) -> Any:
    return np.asarray(_cells(archive, jnp.asarray(descriptors)))


def test_cells_of_a_grid() -> None:
    archive = rx.GridArchive((3, 4), (-1.0, 0.0), (1.0, 2.0))
    assert (archive.cells, archive.dims) == (12, 2)
    assert cells(archive, archive.centroids).tolist() == [*range(12)]
    points = np.random.default_rng(0).uniform((-1.5, -0.5), (1.5, 2.5), (200, 2))
    found = cells(archive, points)
    edges = np.linspace(-1, 1, 4), np.linspace(0, 2, 5)
    for point, cell in zip(points, found, strict=True):
        inside = [
            int(np.clip(np.searchsorted(edge, x, "right") - 1, 0, len(edge) - 2))
            for edge, x in zip(edges, point, strict=True)
        ]
        assert np.ravel_multi_index(inside, (3, 4)) == cell
    outside = jax.jit(jax.vmap(archive.outside))(jnp.asarray(points))
    expected = (points < [-1, 0]).any(1) | (points > [1, 2]).any(1)
    assert np.array_equal(outside, expected)
    assert cells(archive, [[1.0, 2.0], [-1.0, 0.0]]).tolist() == [11, 0]


@pytest.mark.parametrize(("number", "dims"), [(50, 1), (300, 2), (60, 5)])
def test_a_voronoi_cell_is_that_of_brute_force(number: int, dims: int) -> None:
    archive = rx.CVTArchive(number, -2.0, 3.0, dims=dims)
    points = np.random.default_rng(1).uniform(-2.5, 3.5, (2000, dims))
    shares = np.clip((points.astype(np.float32) + 2) / 5, 0, 1)
    centroids = np.asarray(archive.shares)
    distances = np.square(shares[:, None] - centroids).sum(-1)
    expected = distances.argmin(1)
    found = cells(archive, points)
    # Of two that are equally near up to rounding, either one.
    rows = np.arange(len(points))
    assert np.allclose(distances[rows, found], distances[rows, expected], atol=1e-7)
    assert (found == expected).mean() > 0.999
    # Cells are of nearly equal size.
    counts = np.bincount(found, minlength=number)
    assert (counts > 0).mean() > 0.95


def test_a_voronoi_cell_of_bounds_of_different_width() -> None:
    wide = rx.CVTArchive(100, (0.0, -5.0), (1.0, 5.0))
    even = rx.CVTArchive(100, 0.0, 1.0)
    points = np.random.default_rng(2).uniform(0, 1, (500, 2))
    stretched = points * [1, 10] - [0, 5]
    assert (cells(wide, stretched) == cells(even, points)).mean() > 0.995
    assert rx.CVTArchive(100, 0.0, 1.0, seed=1).shares.tolist() != even.shares.tolist()


def test_given_centroids() -> None:
    points = jnp.array([[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]])
    archive = rx.CVTArchive(3, 0.0, 1.0, centroids=points)
    assert close(archive.centroids, points)
    assert cells(archive, [[0.0, 0.0], [1.0, 0.2], [0.5, 0.7]]).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"shape \(cells, dims\) = \(4, 2\), but got"):
        rx.CVTArchive(4, 0.0, 1.0, centroids=points)
    with pytest.raises(ValueError, match="must lie within the bounds"):
        rx.CVTArchive(3, 0.0, 0.5, centroids=points)


def reference(
    archive: Any, kept: dict[int, Any], rows: Any
) -> tuple[dict[int, Any], list[bool]]:
    """Insert one after the other, in plain Python, as the documentation says."""
    kept = dict(kept)
    size = len(rows)
    before = {cell: row[0] for cell, row in kept.items()}
    winner = dict[int, int]()
    found = cells(archive, [row[1] for row in rows]).tolist()
    for i in range(size):
        quality, descriptor, usable = rows[i]
        if not usable:
            continue
        cell = found[i]
        if cell in kept and not quality > kept[cell][0]:
            continue
        if cell in before and not quality > before[cell]:
            continue
        kept[cell] = (quality, i, descriptor)
        winner[cell] = i
    return kept, [i in winner.values() for i in range(size)]


_row = st.tuples(
    st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0]),  # ties are frequent
    st.tuples(st.sampled_from([-3.0, -0.5, 0.5, 4.0]), st.sampled_from([-0.5, 0.5])),
    st.booleans(),
)
_ROWS = 6


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(_row, min_size=_ROWS, max_size=_ROWS), max_size=3))
def test_insertion_is_a_plain_loop(generations: Any) -> None:
    archive = rx.GridArchive((2, 2), -1.0, 1.0)
    elites = no_elites(archive, jnp.zeros(1), {"number": jnp.zeros(_ROWS, jnp.int32)})
    kept = dict[int, Any]()
    for offset, rows in enumerate(generations):
        number = 100 * offset + np.arange(_ROWS)
        expected, added = reference(archive, kept, rows)
        for cell, (quality, i, descriptor) in expected.items():
            if cell not in kept or kept[cell] != (quality, i, descriptor):
                i = 100 * offset + i if i < _ROWS else i
            expected[cell] = (quality, i, descriptor)
        elites, told = _insert(
            elites,
            jnp.asarray(number, float)[:, None],
            jnp.asarray([row[0] for row in rows]),
            jnp.asarray([row[1] for row in rows]),
            jnp.asarray([row[2] for row in rows]),
            {"number": jnp.asarray(number, jnp.int32)},
        )
        assert told.added.tolist() == added
        kept = expected
        assert np.flatnonzero(elites.filled).tolist() == sorted(kept)
        columns = elites.quality, elites.extras["number"], elites.flat[:, 0]
        held = [np.asarray(column) for column in (*columns, elites.descriptor)]
        for cell, (quality, i, descriptor) in kept.items():
            first, *place = [column[cell].tolist() for column in held]
            assert first == quality and place == [i, i, list(descriptor)]


_insert = jax.jit(inserted)


def test_elites_are_drawn_evenly() -> None:
    archive = rx.GridArchive((10,), 0.0, 1.0)
    elites = no_elites(archive, jnp.zeros(1), {})
    sample = jax.jit(lambda elites, key: elites.sample(key, 4000))
    assert set(sample(elites, jr.key(0)).tolist()) == {9}, "the start"
    filled = np.array([1, 4, 5, 9])
    quality = np.asarray(elites.quality).copy()
    quality[filled] = -7
    elites = eqx.tree_at(lambda e: e.quality, elites, jnp.asarray(quality))
    drawn = np.asarray(sample(elites, jr.key(1)))
    counts = np.bincount(drawn, minlength=10)
    assert sorted(np.flatnonzero(counts)) == filled.tolist()
    assert (np.abs(counts[filled] - 1000) < 150).all()


def test_metrics_are_those_of_the_archive() -> None:
    state, data = usual()
    last: Any = jax.tree.map(lambda x: x[-1], data["metrics"])
    fitness = np.asarray(state.fitness)
    filled = ~np.isnan(fitness)
    assert np.array_equal(filled, state.filled)
    # The arm's variance is minimised, so its quality is the negative.
    assert float(last["qd_score"]) == pytest.approx((10 - fitness[filled]).sum(), 1e-5)
    assert float(last["coverage"]) == pytest.approx(filled.mean())
    assert float(last["best_fitness"]) == fitness[filled].min()
    assert (np.diff(data["metrics"]["coverage"]) >= 0).all()
    assert (np.diff(data["metrics"]["qd_score"]) >= 0).all()
    values, aux = _arms(state.archive.params)
    found = cells(state.elites.archive, aux["descriptor"])
    assert np.allclose(values[filled], fitness[filled], rtol=0, atol=1e-5)
    assert close(aux["descriptor"][filled], state.descriptor[filled])
    assert np.array_equal(found[filled], np.flatnonzero(filled))
    best = trainer().params(state)
    assert float(arm(best)[0]) == pytest.approx(fitness[filled].min(), abs=1e-6)


def test_an_elite_by_its_descriptor() -> None:
    state, _ = usual()
    wanted = np.array([1.0, 2.0])
    distance = np.linalg.norm(np.asarray(state.descriptor) - wanted, axis=1)
    nearest = np.where(state.filled, distance, np.inf).argmin()
    assert same(state.elite(wanted), state.archive.params[nearest])
    assert same(jax.jit(lambda s: s.elite(wanted))(state), state.elite(wanted))
    several = jax.vmap(state.elite)(jnp.stack([wanted, -wanted]))
    assert same(several[1], state.elite(-wanted))
    with pytest.raises(ValueError, match=r"must have the shape \(2,\), but got"):
        state.elite(jnp.zeros(3))
    for wrong in "here", None:
        with pytest.raises(TypeError, match="`descriptor` of `QDState.elite` must be"):
            state.elite(wrong)


def test_the_direction_is_that_of_the_task() -> None:
    def upwards(x: Any, key: Any, data: Any = None) -> Any:
        value, aux = arm(x)
        return -value, aux

    upwards.maximize = True  # pyright: ignore[reportFunctionMemberAccess]
    down, first = usual()
    up, second = trainer(task=upwards).init_and_train(jr.key(0))
    assert same(down.elites.flat, up.elites.flat)
    assert same(first["metrics"]["qd_score"], second["metrics"]["qd_score"])
    assert close(first["metrics"]["best_fitness"], -second["metrics"]["best_fitness"])


def test_repetitions_are_averaged() -> None:
    def noisy(x: Any, key: Any, data: Any = None) -> Any:
        value, aux = arm(x)
        noise = jr.normal(key)
        return value + noise, {**aux, "descriptor": aux["descriptor"] + noise, "n": 3}

    one = trainer(1, task=noisy, eval_reps=4, keep="n", popsize=1)

    @eqx.filter_jit
    def generation() -> Any:
        state = one.initialize(jr.key(0))
        asked = one.ask(state, jr.key(1))
        elites, told = one.insert(state, asked, one.evaluate(state, asked))
        noise = jax.vmap(jr.normal)(asked.keys[0]).mean()
        return state, asked, elites, told, noise, arm(asked.individuals[0])

    state, asked, elites, told, noise, (value, aux) = generation()
    assert int(state.filled.sum()) == 1 and asked.keys.shape == (1, 4)
    assert float(-told.quality[0]) == pytest.approx(float(value + noise), abs=1e-5)
    assert close(told.descriptor[0], aux["descriptor"] + noise)
    assert elites.extras["n"].dtype == jnp.int32
    assert int(state.archive.extras["n"][np.argmax(state.filled)]) == 3


# What goes wrong is data, so that one program serves all faults.
FAULTS = ["nan", "inf", "huge", "descriptor"]


def faulty(x: Any, key: Any, data: Any) -> Any:
    """An arm of which a share fails, with a fault by its number."""
    share, fault = data
    value, aux = arm(x)
    bad = jr.uniform(key) < share
    elsewhere = fault == FAULTS.index("descriptor")
    hand = jnp.where(bad & elsewhere, jnp.array([jnp.nan, 0.0]), aux["descriptor"])
    wrong = jnp.array([jnp.nan, -jnp.inf, -1e30, 0.0])[fault]
    return jnp.where(bad & ~elsewhere, wrong, value), {"descriptor": hand}


def _faulty(emitter: Any, **more: Any) -> Any:
    return trainer(120, emitter, task=faulty, **more)


EMITTERS = ["iso_line", "cma_mae", ("cma_me", "gaussian")]


@pytest.mark.parametrize(
    ("emitter", "fault"),
    [
        *((EMITTERS[0], fault) for fault in (*FAULTS, "twice")),
        *((EMITTERS[2], fault) for fault in FAULTS),
    ],
    ids=lambda x: x if isinstance(x, str) else "cma_me",
)
def test_failed_individuals_never_enter(emitter: Any, fault: str) -> None:
    """An individual that fails is as if it had not been there."""
    twice = fault == "twice"
    one = _faulty(emitter, eval_reps=2 if twice else 1)
    kind = 0 if twice else FAULTS.index(fault)
    state, data = one.init_and_train(jr.key(0), (jnp.asarray(0.3), jnp.asarray(kind)))
    failed = np.asarray(data["metrics"]["failed"])
    assert 0.15 < failed.mean() / 30 < 0.7
    filled = np.asarray(state.filled)
    fitness, descriptor = np.asarray(state.fitness), np.asarray(state.descriptor)
    assert np.isfinite(fitness[filled]).all() and (fitness[filled] >= 0).all()
    assert np.isfinite(descriptor).all()
    assert np.isfinite(np.asarray(state.elites.flat)).all()
    expected = np.asarray(_arms(state.archive.params)[0])
    assert np.allclose(fitness[filled], expected[filled], atol=1e-4)
    assert data["metrics"]["coverage"][29] > 0.3
    leaves = jax.tree.leaves(state.emitter_state)
    assert all(np.isfinite(np.asarray(x)).all() for x in leaves)


def test_a_failed_genotype_never_enters() -> None:
    wild = rx.GaussianEmitter(1e38)
    state, data = trainer(10, wild).init_and_train(jr.key(0))
    assert np.isfinite(np.asarray(state.elites.flat)).all()
    assert int(data["metrics"]["failed"].sum()) > 0


@pytest.mark.parametrize("emitter", EMITTERS, ids=["iso", "cma_mae", "cma_me"])
def test_all_failed_keeps_the_emitter(emitter: Any) -> None:
    one, kind = _faulty(emitter), jnp.asarray(0)
    alive, _ = one.init_and_train(jr.key(0), (jnp.asarray(0.3), kind))
    dead = jnp.asarray(1.0), kind
    with pytest.warns(RuntimeWarning, match="generations in a row had no usable"):
        after, data = one.train(alive, jr.key(1), dead)
    assert same(after.elites, alive.elites)
    assert same(after.emitter_state, alive.emitter_state)
    assert data["metrics"]["failed"].tolist() == [30] * 120
    assert data["metrics"]["added"].tolist() == [0] * 120
    with pytest.warns(RuntimeWarning, match="generations in a row had no usable"):
        none, data = one.init_and_train(jr.key(0), dead)
    assert not none.filled.any() and np.isnan(data["metrics"]["best_fitness"]).all()
    assert same(one.params(none), jnp.zeros(6)), "the start"
    with pytest.raises(ValueError, match="there is no elite yet"):
        none.elite(jnp.zeros(2))


def test_a_warning_if_most_is_outside() -> None:
    narrow = rx.GridArchive((10, 12), 10.0, 11.0)
    with pytest.warns(RuntimeWarning, match="of the descriptors were outside"):
        state, data = trainer(archive=narrow).init_and_train(jr.key(0))
    assert data["metrics"]["outside"].tolist() == [30] * 20
    assert int(state.filled.sum()) == 1, "all count as the nearest border cell"


def test_iso_line_and_gaussian_against_numpy() -> None:
    """The moments of the first generation, from two elites."""
    archive = rx.GridArchive((2,), 0.0, 1.0)
    elites = no_elites(archive, jnp.zeros(3), {})
    x, y = np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.0, 3.5])
    elites = eqx.tree_at(
        lambda e: (e.flat, e.quality),
        elites,
        (jnp.asarray(np.stack([x, y]), jnp.float32), jnp.zeros(2)),
    )
    size = 40_000
    lines = rx.IsoLineEmitter(0.1, 0.5)
    ask = eqx.filter_jit(lambda one: one.ask(jr.key(0), None, elites, size)[0])
    found = ask(lines)
    rows = np.asarray(found)
    assert np.allclose(rows.mean(0), (x + y) / 2, atol=0.02)
    between = np.outer(x - y, x - y)
    # Half of the pairs are one elite with itself.
    expected = between / 4 + 0.25 / 2 * between + 0.01 * np.eye(3)
    assert np.allclose(np.cov(rows.T), expected, atol=0.03)
    found = ask(rx.GaussianEmitter(0.3))
    expected = between / 4 + 0.09 * np.eye(3)
    assert np.allclose(np.cov(np.asarray(found).T), expected, atol=0.03)
    clipped = ask(rx.GaussianEmitter(3.0, lower=-1.0, upper=2.5))
    assert float(clipped.min()) == -1.0 and float(clipped.max()) == 2.5


def _cma_by_numpy(before: Any, samples: Any, order: Any, parents: int) -> Any:
    """Hansen's tutorial, with the Cholesky factor in place of the square root."""
    mean, sigma, cov, factor, path_c, path_s, age = before
    n = len(mean)
    raw = np.log(parents + 0.5) - np.log(np.arange(1, parents + 1))
    w = raw / raw.sum()
    mueff = 1 / (w**2).sum()
    cc = (4 + mueff / n) / (n + 4 + 2 * mueff / n)
    cs = (mueff + 2) / (n + mueff + 5)
    c1 = 2 / ((n + 1.3) ** 2 + mueff)
    cmu = min(1 - c1, 2 * (mueff - 2 + 1 / mueff) / ((n + 2) ** 2 + mueff))
    damps = 1 + 2 * max(0, np.sqrt(max(0, (mueff - 1) / (n + 1))) - 1) + cs
    chi = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))
    y = (samples[order[:parents]] - mean) / sigma
    step = w @ y
    path_s = (1 - cs) * path_s + np.sqrt(cs * (2 - cs) * mueff) * np.linalg.solve(
        factor, step
    )
    length = np.linalg.norm(path_s)
    short = length / np.sqrt(1 - (1 - cs) ** (2 * (age + 1))) / chi < 1.4 + 2 / (n + 1)
    path_c = (1 - cc) * path_c + short * np.sqrt(cc * (2 - cc) * mueff) * step
    cov = (
        (1 - c1 - cmu) * cov
        + c1 * (np.outer(path_c, path_c) + (1 - short) * cc * (2 - cc) * cov)
        + cmu * (y.T * w) @ y
    )
    sigma = sigma * np.exp(min(1, cs / damps * (length / chi - 1)))
    mean = mean + before[1] * step
    return mean, sigma, cov, np.linalg.cholesky(cov), path_c, path_s, age + 1


@pytest.mark.parametrize("dims", [3, 8])
def test_cma_against_numpy(dims: int) -> None:
    random = np.random.default_rng(0)
    start = random.normal(size=(2, dims))
    ours = Distributions.around(jnp.asarray(start), jnp.asarray(0.7))
    theirs: list[Any] = [
        (mean, 0.7, np.eye(dims), np.eye(dims), np.zeros(dims), np.zeros(dims), 0)
        for mean in start
    ]
    step = jax.jit(lambda d, *more: d.updated(*more).decomposed(jnp.asarray(True)))
    for number in range(12):
        samples = np.asarray(ours.draw(jr.key(number), 10))
        values = np.sum(samples**2 * np.arange(1, dims + 1), -1)
        order = values.argsort(1)
        parents = np.array([5, 1 + number % 10])
        rank = order.argsort(1)
        ours = step(ours, jnp.asarray(samples), jnp.asarray(rank), jnp.asarray(parents))
        for i in range(2):
            theirs[i] = _cma_by_numpy(theirs[i], samples[i], order[i], parents[i])
        names = "mean", "sigma", "covariance", "factor", "path", "step_path", "age"
        for i, name in enumerate(names):
            expected = np.stack([one[i] for one in theirs])
            found = np.asarray(getattr(ours, name))
            assert np.allclose(found, expected, rtol=2e-3, atol=2e-4), (number, name)
            # Rounding errors would grow from step to step.
        theirs = [
            tuple(np.asarray(getattr(ours, name)[i], np.float64) for name in names)
            for i in range(2)
        ]


def test_ranks_of_cma_me() -> None:
    """New cells first, then improvements, by their numbers; the failed last."""
    group = jnp.array([[0, 2, 1, 2, 1, 0]])
    value = jnp.array([[-0.1, 3.0, 0.5, 7.0, 9.0, jnp.nan]])
    usable = jnp.array([[True, True, True, True, True, False]])
    assert ranks(group, value, usable).tolist() == [[4, 1, 3, 0, 2, 5]]
    equal = ranks(jnp.zeros((1, 4), int), jnp.zeros((1, 4)), jnp.ones((1, 4), bool))
    assert equal.tolist() == [[0, 1, 2, 3]], "of equal ones, the first"


def test_what_an_emitter_is_told() -> None:
    archive = rx.GridArchive((4,), 0.0, 4.0)
    elites = no_elites(archive, jnp.zeros(1), {})

    def insert(elites: Any, quality: Any, place: Any) -> Any:
        rows = jnp.asarray(quality), jnp.asarray(place)[:, None]
        usable = jnp.isfinite(rows[0])
        return _insert(elites, jnp.zeros((len(quality), 1)), *rows, usable, {})

    elites, told = insert(elites, [1.0, 2.0, jnp.nan], [0.5, 0.6, 1.5])
    assert told.new.tolist() == [True, True, False]
    assert told.added.tolist() == [False, True, False]
    assert told.gain[:2].tolist() == [1.0, 2.0]
    _, told = insert(elites, [1.5, 5.0, 3.0], [0.1, 0.2, 3.5])
    assert told.new.tolist() == [False, False, True]
    assert told.better.tolist() == [False, True, True]
    assert told.gain.tolist() == [-0.5, 3.0, 3.0]
    assert told.share[:, 0].tolist() == pytest.approx([0.025, 0.05, 0.875])


def test_thresholds_of_cma_mae() -> None:
    """They rise as if individuals came one after the other, with their mean."""
    one = rx.CMAMAEEmitter(0.1, -1.0, emitters=1)
    archive = rx.GridArchive((3,), 0.0, 3.0)
    elites = no_elites(archive, jnp.zeros(2), {})
    population = jr.normal(jr.key(0), (5, 2))
    place = jnp.array([0.5, 0.2, 1.5, 0.7, 2.5])[:, None]
    quality = jnp.array([1.0, 3.0, -2.0, -5.0, jnp.nan])
    usable = jnp.isfinite(quality)
    elites, told = _insert(elites, population, quality, place, usable, {})
    begin = eqx.filter_jit(lambda one: one.init(jr.key(1), told, elites))
    state = begin(one)
    assert state.thresholds.tolist() == [-1.0] * 3
    after = eqx.filter_jit(one.tell)(jr.key(2), state, told, elites)
    first = -1.0
    for _ in range(2):
        first += 0.1 * (2.0 - first)
    assert after.thresholds.tolist() == pytest.approx([first, -1.0, -1.0])
    by_default = begin(rx.CMAMAEEmitter(emitters=1))
    assert by_default.thresholds.tolist() == [-5.0] * 3, "the worst that is usable"


def test_bad_input() -> None:
    grid = rx.GridArchive
    for wrong, message in (
        (lambda: grid((3, 3), 1.0, 0.0), "`lower` of `GridArchive` must be below"),
        (lambda: grid((3, 3), 0.0, jnp.nan), "`upper` of `GridArchive` must be finite"),
        (lambda: grid((3, 3), (0, 0, 0), 1.0), "must be one number, or 2"),
        (lambda: grid((3, 0), 0.0, 1.0), "`shape` of .* must be .* at least 1"),
        (lambda: rx.CVTArchive(50, 0.0, 1.0, samples=20), "`samples` .* at least `cel"),
        (lambda: trainer(emitter="cma_m"), "no emitter 'cma_m'. Closest: 'cma_me'"),
        (lambda: trainer(emitter="PGA-ME"), "of qdax, but it needs `brax.v1`"),
        (lambda: trainer(emitter="cma_me", popsize=32), "nearest are 30 and 35"),
        (lambda: trainer(emitter="cma_me", popsize=5), "at least 2 .* nearest is 10"),
        (lambda: trainer(emitter=("iso_line", "gaussian"), popsize=31), "multiple of"),
        (lambda: trainer(params_like=None), "but got neither"),
        (lambda: trainer(initializer=lambda key: jnp.ones(6)), "but got both"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
    sizes = rx.MultiEmitter((rx.IsoLineEmitter(), rx.GaussianEmitter()), (10, 10))
    with pytest.raises(ValueError, match="must be the sum of the `sizes`.* 20, .* 30"):
        trainer(emitter=sizes)
    with pytest.raises(ValueError, match="must be one for each emitter, 1, .*10, 10"):
        rx.MultiEmitter((rx.IsoLineEmitter(),), (10, 10))
    for kind in rx.IsoLineEmitter, 3:
        with pytest.raises(TypeError, match="`emitter` of `QDTrainer` must be one of"):
            trainer(emitter=kind)
    with pytest.raises(TypeError, match="`archive` of `QDTrainer` must be"):
        trainer(archive=10)
    task = rx.GymnaxTask("CartPole-v1", normalize_obs=True)
    with pytest.raises(ValueError, match="without `normalize_obs`.*fixed numbers"):
        trainer(task=task)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda x: (x[0], None), 'must hold a descriptor.*"descriptor": ...'),
        (lambda x: (x[0], {"length": 1}), r"but got the entries \['length'\]"),
        (lambda x: (x[0], {"descriptor": x[:3]}), r"shape \(2,\).* but got \(3,\)"),
        (lambda x: (x[0], x[:2], {}), "must return a pair"),
    ],
)
def test_bad_results_of_a_task(result: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        trainer(task=lambda x, key, data: result(x)).init_and_train(jr.key(0))


def test_a_name_to_keep_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="`keep`: .* no 'descriptors'. Closest: 'des"):
        trainer(keep="descriptors").init_and_train(jr.key(0))


def test_a_descriptor_function_of_ones_own() -> None:
    def plain(x: Any, key: Any, data: Any = None) -> Any:
        value, aux = arm(x)
        return value, {"hand": aux["descriptor"]}

    own = trainer(task=plain, descriptor_fn=lambda aux: aux["hand"], keep="hand")
    state, _ = own.init_and_train(jr.key(0))
    expected, _ = usual()
    assert same(state.descriptor, expected.descriptor)
    assert same(state.archive.extras["hand"], expected.descriptor)


def test_a_descriptor_function_that_finds_nothing() -> None:
    own = trainer(descriptor_fn=lambda aux: aux["hand"])
    with pytest.raises(ValueError, match="`descriptor_fn` looks for 'hand' in the aux"):
        own.init_and_train(jr.key(0))


def test_an_initializer_draws_each_individual() -> None:
    make = lambda key: {"w": jr.normal(key, (6,)), "n": jnp.arange(2)}
    task = lambda p, key, data: arm(p["w"])
    one = trainer(3, params_like=None, initializer=make, task=task)
    run = lambda key: one.params(one.init_and_train_(key))
    assert eqx.filter_eval_shape(run, jr.key(0))["n"].dtype == jnp.int32

    @eqx.filter_jit
    def drawn(key: Any) -> Any:
        draw_key, _, _ = jr.split(jr.split(key)[0], 3)
        first = jax.vmap(lambda key: make(key)["w"])(jr.split(draw_key, 30))
        return one.initialize(key), first

    start, first = drawn(jr.key(0))
    best = one.params(start)
    assert best["n"].tolist() == [0, 1] and best["w"].shape == (6,)
    known = {row.tobytes() for row in np.asarray(first)}
    elites = np.asarray(start.elites.flat[np.asarray(start.filled)])
    assert all(row.tobytes() in known for row in elites)


def test_insertion_is_that_of_qdax_where_nothing_ties() -> None:
    from qdax.core.containers.mapelites_repertoire import MapElitesRepertoire

    archive = rx.GridArchive((5, 5), 0.0, 1.0)
    elites = no_elites(archive, jnp.zeros(3), {})
    theirs: Any = None
    for key in jr.split(jr.key(0), 4):
        one, two, three = jr.split(key, 3)
        rows = (
            jr.normal(one, (40, 3)),
            jr.normal(two, (40,)),
            jr.uniform(three, (40, 2)),
        )
        elites, _ = _insert(elites, *rows, jnp.ones(40, bool), {})
        if theirs is None:
            theirs = MapElitesRepertoire.init(
                rows[0], rows[1], rows[2], archive.centroids, extra_scores={}
            )
        else:
            theirs = theirs.add(rows[0], rows[2], rows[1], {})
    filled = np.asarray(elites.filled)
    assert np.array_equal(filled, theirs.fitnesses[:, 0] > -jnp.inf)
    assert same(elites.quality, theirs.fitnesses[:, 0])
    assert same(elites.flat[filled], theirs.genotypes[filled])
    assert same(elites.descriptor[filled], theirs.descriptors[filled])


def test_a_failed_individual_is_told_to_qdax_as_the_worst() -> None:
    seen = list[Any]()

    class Spy(_mixing()):
        def state_update(self, emitter_state: Any, *more: Any) -> Any:
            jax.debug.callback(lambda *rows: seen.append(rows), *more[1:4])
            return emitter_state

    def failing(x: Any, key: Any, data: Any = None) -> Any:
        value, aux = arm(x)
        return jnp.where(jr.uniform(key) < 0.5, jnp.nan, value), aux

    state, data = trainer(3, Spy(*_variation()), task=failing).init_and_train(jr.key(0))
    assert int(data["metrics"]["failed"].sum()) > 10
    jax.effects_barrier()
    assert len(seen) == 3
    for genotypes, fitness, descriptors in seen:
        assert all(np.isfinite(x).all() for x in (genotypes, fitness, descriptors))
        worst = fitness == fitness.min()
        assert worst.sum() > 3, "the failed ones"
        assert len(np.unique(genotypes[worst], axis=0)) == 1, "are the best elite"
    assert float(state.filled.mean()) > 0.1


def _mixing() -> Any:
    from qdax.core.emitters.standard_emitters import MixingEmitter

    return MixingEmitter


def _variation() -> Any:
    from qdax.core.emitters.mutation_operators import isoline_variation

    vary = functools.partial(isoline_variation, iso_sigma=0.05, line_sigma=0.1)
    return None, vary, 1.0, 30


def test_emitters_of_qdax() -> None:
    emitter = _mixing()(*_variation())
    state, data = trainer(20, emitter).init_and_train(jr.key(0))
    assert float(data["metrics"]["coverage"][-1]) > 0.3
    both = rx.MultiEmitter((rx.IsoLineEmitter(), rx.QDaxEmitter(emitter)), (10, 30))
    run = trainer(2, both, popsize=40).init_and_train_
    assert eqx.filter_eval_shape(run, jr.key(0)).elites.flat.shape == (120, 6)
    with pytest.raises(ValueError, match="must be the `batch_size` of Mixing.*, 30"):
        trainer(emitter=emitter, popsize=40)


def test_qdax_is_not_imported_without_need(tmp_path: Any) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, jax.numpy as jnp, realax as rx\n"
        "archive = rx.GridArchive((3,), 0.0, 1.0)\n"
        "more = {'params_like': jnp.ones(2), 'archive': archive}\n"
        "for name in 'iso_line', 'cma_me', ('gaussian', 'cma_mae'):\n"
        "    rx.QDTrainer(1, lambda *_: 0, emitter=name, **more)\n"
        "assert not {'qdax', 'kheperax', 'sklearn'} & set(sys.modules)\n"
    )
    done = python(str(script), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_learning() -> None:
    """CMA-ME fills the arm's archive; iso-line beats noise that has no memory."""
    archive = rx.CVTArchive(400, -6.0, 6.0)
    covered = {
        emitter: float(
            trainer(100, emitter, archive=archive, popsize=50).init_and_train(
                jr.key(1)
            )[1]["metrics"]["coverage"][-1]
        )
        for emitter in ("cma_me", "cma_mae", "iso_line")
    }
    assert covered["cma_me"] > 0.7 and covered["iso_line"] > 0.6, covered
    assert covered["cma_mae"] > 0.6, covered
