"""Quality diversity by derivatives of the task."""

import pathlib
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx
from realax.training.qd import CMAMEGAState, Slopes

from .helpers import same


ARCHIVE = rx.GridArchive((10, 10), -8.0, 8.0)


def bowl(x: Any, key: Any, data: Any = None) -> Any:
    """A bowl, and two curved numbers as its descriptor."""
    shift = 0.0 if data is None else data
    value = jnp.sum((x - 0.7) ** 2) + 0.1 * jnp.sum(x[:-1] * x[1:]) + shift * x[0]
    return value, {"descriptor": jnp.stack([x[:2] @ x[:2], jnp.sin(x[2]) + x[3]])}


def trainer(emitter: Any, steps: int = 20, **kws: Any) -> rx.QDTrainer[Any]:
    given: dict[str, Any] = {"archive": ARCHIVE, "popsize": 12, "task": bowl}
    given |= {"params_like": jnp.linspace(0.5, 1.5, 6), "emitter": emitter}
    return rx.QDTrainer(steps, **{**given, **kws})


@eqx.filter_jit
def _start(made: Any) -> Any:
    return made.initialize(jr.key(1))


class Looks(rx.AbstractEmitter):
    """Keeps the derivatives at the first elites."""

    differentiates: ClassVar[bool] = True

    def init(self, key: Any, told: Any, elites: Any) -> Any:
        return self._slopes_of(elites, jnp.zeros)

    def ask(
        self, key: Any, state: Any, elites: Any, popsize: int, slopes: Any = None
    ) -> Any:
        points = elites.flat[jnp.argsort(~elites.filled)[:popsize]]
        return points, (points, slopes(points))

    def _slopes_of(self, elites: Any, make: Any) -> Any:
        dims = elites.flat.shape[-1]
        return make((12, dims)), Slopes(make((12, dims)), make((12, 2, dims)))


@pytest.mark.parametrize("maximize", [False, True])
def test_derivatives_are_finite_differences(maximize: bool) -> None:
    def task(x: Any, key: Any, data: Any = None) -> Any:
        value, aux = bowl(x, key, data)
        return value + jr.normal(key), aux  # averaged, and without a derivative

    if maximize:
        task.maximize = True  # pyright: ignore[reportFunctionMemberAccess]
    made = trainer(Looks(), 1, task=task, eval_reps=2)
    state, _ = made.init_and_train(jr.key(0), jnp.asarray(0.3))
    emitted: Any = state.emitter_state
    points, slopes = emitted

    def outcome(x: np.ndarray) -> np.ndarray:
        value = np.sum((x - 0.7) ** 2) + 0.1 * np.sum(x[:-1] * x[1:]) + 0.3 * x[0]
        sign = 1 if maximize else -1
        return np.asarray([sign * value, x[:2] @ x[:2], np.sin(x[2]) + x[3]])

    step = 1e-6
    for row, point in enumerate(np.asarray(points, np.float64)):
        found = [
            (outcome(point + step * one) - outcome(point - step * one)) / (2 * step)
            for one in np.eye(6)
        ]
        expected = np.transpose(found)
        assert np.allclose(slopes.gradient[row], expected[0], 1e-4, 1e-4)
        assert np.allclose(slopes.jacobian[row], expected[1:], 1e-4, 1e-4)


def test_directions_have_length_one() -> None:
    gradient = jnp.asarray([[3.0, 4.0], [0.0, 0.0], [jnp.nan, 1.0], [1e30, 1e30]])
    jacobian = jnp.asarray([[[0.0, -1e-30]], [[jnp.inf, 0.0]], [[2.0, 0.0]], [[1, 1]]])
    found = Slopes(gradient, jacobian).directions
    half = np.sqrt(0.5)
    expected = [
        [[0.6, 0.8], [0, -1]],
        [[0, 0], [0, 0]],
        [[0, 0], [1, 0]],
        [[half, half], [half, half]],
    ]
    assert np.allclose(found, expected, atol=1e-6)


def _weights(parents: int) -> np.ndarray:
    raw = np.log(parents + 0.5) - np.log(np.arange(parents) + 1.0)
    return raw / raw.sum()


def test_a_generation_of_cma_mega_by_hand() -> None:
    """Branches, their ranking, and the move of the point, in plain numpy."""
    made = trainer(rx.CMAMEGAEmitter(sigma=0.8, rate=0.5), popsize=9)
    state = _start(made)
    asked = eqx.filter_jit(made.ask)(state, jr.key(2))
    emitted: Any = asked.es_state
    before: Any = state.emitter_state
    assert isinstance(emitted, CMAMEGAState)
    point, steps = np.asarray(before.point[0]), np.asarray(emitted.steps[0])

    gradient = jax.jacrev(lambda x: -bowl(x, None)[0])(point)
    jacobian = jax.jacrev(lambda x: bowl(x, None)[1]["descriptor"])(point)
    directions = np.concatenate([gradient[None], jacobian])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    population = np.asarray(asked.population)
    assert np.array_equal(population[0], point)
    assert np.allclose(population[1:], point + steps @ directions, atol=1e-5)

    elites = np.asarray(state.elites.quality)
    value, aux = jax.vmap(bowl, (0, None))(asked.population, None)
    cells = np.asarray(jax.vmap(ARCHIVE.cell)(aux["descriptor"]))[1:]
    quality, old = -np.asarray(value)[1:], elites[cells]
    # One in the cell of the point has to be better than the point, too.
    own = int(ARCHIVE.cell(aux["descriptor"][0]))
    old = np.where(cells == own, np.maximum(old, -float(value[0])), old)
    new = old == -np.inf
    better = quality > old
    gain = np.where(new, quality, quality - np.where(new, 0, old))
    order = np.lexsort((-gain, -(better + new.astype(int))))
    chosen = order[: better.sum()]
    assert 0 < len(chosen) < 8
    mean = _weights(len(chosen)) @ steps[chosen]

    results = eqx.filter_jit(made.evaluate)(state, asked)
    after, _ = eqx.filter_jit(made.tell)(state, asked, results)
    told: Any = after.emitter_state
    assert np.allclose(told.distributions.mean[0], mean, atol=1e-5)
    assert np.allclose(told.point[0], point + 0.5 * mean @ directions, atol=1e-5)


def test_individuals_of_omg_mega() -> None:
    """Each is an elite, moved in the space of the three directions, and uphill."""
    made = trainer(rx.OMGMEGAEmitter(0.5), popsize=200)
    state = _start(made)
    population = np.asarray(eqx.filter_jit(made.ask)(state, jr.key(2)).population)
    elites = np.asarray(state.elites.flat[state.elites.filled])
    jacobian = jax.vmap(jax.jacrev(_outcome))(jnp.asarray(elites))
    rows = np.asarray(jacobian / jnp.linalg.norm(jacobian, axis=-1, keepdims=True))
    steps = np.zeros((len(population), 3))
    for i, one in enumerate(population):
        pairs = zip(elites, rows, strict=True)
        fits = [np.linalg.lstsq(r.T, one - e, rcond=None) for e, r in pairs]
        best = min(range(len(fits)), key=lambda j: float(fits[j][1][0]))
        assert fits[best][1][0] < 1e-8
        steps[i] = fits[best][0]
    assert (steps[:, 0] > -1e-3).all()
    assert np.allclose(np.sqrt(np.mean(steps**2, axis=0)), 0.5, rtol=0.2)


def _outcome(x: Any) -> Any:
    value, aux = bowl(x, None)
    return jnp.concatenate([-value[None], aux["descriptor"]])


def test_a_strategy_without_success_begins_anew() -> None:
    made = trainer(rx.CMAMEGAEmitter(), popsize=6)
    state = _start(made)
    asked = eqx.filter_jit(made.ask)(state, jr.key(2))
    results = eqx.filter_jit(made.evaluate)(state, asked)
    worse = eqx.tree_at(lambda r: r.values, results, results.values + 1e6)
    before, tell = state, eqx.filter_jit(made.tell)
    for _ in range(3):  # worse than the elites of all cells that it reaches by now
        state, _ = tell(before, asked, worse)
        before = eqx.tree_at(lambda s: s.elites, before, state.elites)
    told: Any = state.emitter_state
    assert (told.point[0] == state.elites.flat).all(axis=-1).any()
    assert (told.distributions.mean == 0).all() and told.distributions.age[0] == 0


def test_where_derivatives_vanish() -> None:
    """Nothing moves, and nothing becomes NaN."""

    def steps(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(jnp.round(x)), {"descriptor": jnp.round(x[:2])}

    for emitter in ("cma_mega", "omg_mega"):
        state, record = trainer(emitter, task=steps).init_and_train(jr.key(0))
        assert np.isfinite(state.elites.flat).all()
        assert int(record["metrics"]["failed"].sum()) == 0


@pytest.mark.slow
def test_derivatives_find_more() -> None:
    """On a sphere of 50 numbers, with the same number of evaluations as CMA-ME."""
    bound = 5.12 * 25

    def sphere(x: Any, key: Any, data: Any = None) -> Any:
        clipped = jnp.where(jnp.abs(x) <= 5.12, x, 5.12 / x)
        halves = jnp.stack([clipped[:25].sum(), clipped[25:].sum()])
        return jnp.sum((x - 2.048) ** 2), {"descriptor": halves}

    def coverage(emitter: Any, key: Any) -> Any:
        made = trainer(
            emitter,
            200,
            task=sphere,
            params_like=jnp.zeros(50),
            archive=rx.GridArchive((30, 30), -bound, bound),
            popsize=20,
        )
        return made.init_and_train(key)[1]["metrics"]["coverage"][-1]

    found = {
        name: np.asarray(jax.vmap(lambda key, e=emitter: coverage(e, key))(KEYS))
        for name, emitter in {
            "cma_mega": rx.CMAMEGAEmitter(sigma=5.0),
            "omg_mega": rx.OMGMEGAEmitter(5.0),
            "cma_me": rx.CMAEmitter(emitters=1),
        }.items()
    }
    assert np.median(found["cma_mega"]) > 2 * np.median(found["cma_me"]), found
    assert np.median(found["omg_mega"]) > 2 * np.median(found["cma_me"]), found


KEYS = jr.split(jr.key(5), 3)


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
def test_resumed_mixed_and_over_devices(tmp_path: pathlib.Path) -> None:
    emitter = rx.MultiEmitter(
        (rx.CMAMEGAEmitter(emitters=2), rx.OMGMEGAEmitter(), rx.IsoLineEmitter()),
        (6, 4, 2),
    )
    whole, _ = trainer(emitter).init_and_train(jr.key(0))

    def part(steps: int) -> Any:
        callbacks = rx.Checkpointer(tmp_path / "run", every=7)
        return trainer(emitter, steps, callbacks=callbacks).init_and_train_(jr.key(0))

    part(7)
    assert same(part(20), whole)
    two, _ = trainer(emitter, n_devices=2).init_and_train(jr.key(0))
    assert same(two, whole)


def test_a_policy_by_the_derivatives_of_its_episode() -> None:
    def tilt(env_state: Any, info: Any) -> Any:
        return info.obs[:2]  # the cosine and the sine of the angle

    task = rx.GymnaxTask("Pendulum-v1", max_steps=20, descriptor=rx.MeanOf(tilt))
    policy = rx.MLPPolicy(*task.space[:2], 4, 1, key=jr.key(0))
    archive = rx.GridArchive((8, 8), -1.0, 1.0)
    made = trainer(
        "cma_mega", 3, task=task, params_like=policy, archive=archive, popsize=6
    )
    state, record = made.init_and_train(jr.key(0))
    emitted: Any = state.emitter_state
    assert int(record["metrics"]["failed"].sum()) == 0
    assert np.allclose(jnp.linalg.norm(emitted.directions, axis=-1), 1.0, atol=1e-4)
    assert isinstance(state.best_params, rx.MLPPolicy)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"multiple of the 2 `emitters` of `CMAMEGA"):
        trainer(rx.CMAMEGAEmitter(emitters=2), popsize=7)
    with pytest.raises(ValueError, match="at least 3 for each, but got 4"):
        trainer(rx.CMAMEGAEmitter(emitters=2), popsize=4)
    on_host = rx.HostTask(lambda params, seed, data=None: (0.0, {"descriptor": params}))
    for task, reason in (
        (on_host, "runs on the host, where jax takes no derivatives"),
        (rx.GymnaxTask("CartPole-v1"), "its actions are discrete choices"),
    ):
        for emitter in ("omg_mega", ("iso_line", "cma_mega")):
            with pytest.raises(ValueError, match=f'{reason}.* "cma_me" or'):
                trainer(emitter, task=task)
    with pytest.raises(ValueError, match=r"`rate` of `CMAMEGAEmitter` must be"):
        rx.CMAMEGAEmitter(rate=0.0)
    with pytest.raises(ValueError, match="'cma_mega'"):
        trainer("cma_megaa")
    state = trainer("omg_mega").initialize(jr.key(0))
    with pytest.raises(TypeError, match="`OMGMEGAEmitter.ask` needs `slopes`"):
        rx.OMGMEGAEmitter().ask(jr.key(0), None, state.elites, 3)
