"""All of evosax's algorithms: by every name, on every kind of bad fitness."""

import functools
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from evosax.algorithms import Open_ES, algorithms

import realax as rx
from realax.training.evo._names import algorithm_names, resolve

from .helpers import same


FAULTS = [
    "one NaN",
    "half NaN",
    "all NaN",
    "+inf",
    "-inf",
    "1e30",
    "NaN always",
    "constant",
]
WITH_FAULTS = len(FAULTS) + 1  # the last one is none at all


class Faulty(rx.AbstractTask[Any]):
    """A hill at 1 whose batch of values is spoilt in the way that `data` says.

    The odd faults strike in about half of the generations, "NaN always" in every one.
    """

    maximize: bool = eqx.field(static=True, default=True)

    def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
        return -jnp.sum((params - 1) ** 2), None

    def evaluate(self, population: Any, keys: Any, data: Any = None) -> Any:
        values, _ = super().evaluate(population, keys, data)
        first = jnp.arange(values.shape[0])[:, None] == 0
        # Keys are random bits themselves, which cost no program.
        odd = jr.key_data(keys)[..., 0] % 2 == 1
        half, strikes = odd, odd[1, 0]
        nan, inf = jnp.nan, jnp.inf
        spoil = lambda where, bad: jnp.where(strikes & where, bad, values)
        cases = [
            spoil(first, nan),
            spoil(half, nan),
            spoil(True, nan),
            spoil(first, inf),
            spoil(first, -inf),
            spoil(first, 1e30),
            jnp.where(first, nan, values),
            spoil(True, -3.0),
            values,
        ]
        return jnp.stack(cases)[data], None


def _distance(params: Any) -> float:
    """How far from the hill's top; it starts at 6.75."""
    return float(np.sum((params - 1) ** 2))


def _check_finite(before: Any, after: Any, fault: str) -> None:
    """What was finite in the algorithm's state is so."""
    for x, y in zip(*map(jax.tree.leaves, (before, after)), strict=True):
        if jnp.issubdtype(x.dtype, jnp.inexact):
            assert np.all(np.isfinite(y) | ~np.isfinite(x)), fault


@pytest.mark.parametrize("name", algorithms)
def test_bad_fitness_destroys_nothing(name: str) -> None:
    trainer = rx.EvosaxTrainer(60, name, Faulty(), jnp.full(3, 2.5), popsize=16)

    @jax.jit
    @jax.vmap
    def run(fault: Any) -> Any:
        first = trainer.initialize(jr.key(0), fault)
        state, data = trainer.train(first, jr.key(1), fault)
        best = state.best_params, state.best_fitness
        states = first.es_state, state.es_state
        return trainer.params(state), best, states, data["metrics"]

    # Compared on the host: there each comparison were one more program.
    results = jax.device_get(run(jnp.arange(WITH_FAULTS)))
    healthy = _distance(results[0][-1])
    for i, fault in enumerate([*FAULTS, "none"]):
        params, best, states, metrics = jax.tree.map(lambda x, i=i: x[i], results)
        best_params, best_fitness = best
        if fault not in ("constant", "none"):
            assert np.max(metrics["failed"]) > 0, "the fault never struck"
            assert best_fitness > -3, "it learns all the same"
        if fault == "none":
            assert not np.any(metrics["failed"]) and not np.any(metrics["rejected"])
        assert np.all(np.isfinite(params)), fault
        assert np.all(np.isfinite(best_params)), fault
        assert -6.75 < best_fitness <= 0, fault
        if fault in ("one NaN", "NaN always", "-inf", "+inf", "1e30"):
            # One bad individual of sixteen costs next to nothing.
            assert np.sum(metrics["rejected"]) <= 6, fault
            assert _distance(params) < max(2 * healthy, 3.0), fault
        _check_finite(states[0], states[1], fault)


def test_every_name() -> None:
    classes = {cls.__name__ for cls in algorithms.values()}
    older = {
        "OpenES": "Open_ES",
        "DES": "DiscoveredES",
        "LES": "LearnedES",
        "LGA": "LearnedGA",
        "DE": "DifferentialEvolution",
        "SimAnneal": "SimulatedAnnealing",
        "Full_iAMaLGaM": "iAMaLGaM_Full",
        "Indep_iAMaLGaM": "iAMaLGaM_Univariate",
        "RmES": "Rm_ES",
        "GLD": "GradientlessDescent",
        "HillClimber": "HillClimbing",
    }
    assert len(algorithms) == 37
    assert set(algorithm_names()) == {*algorithms, *classes, *older}
    for name, newer in older.items():
        assert algorithms[resolve(name)].__name__ == newer
    for wrong in ("CMAES", "openes", "Sep-CMA-ES"):
        with pytest.raises(ValueError, match="Closest"):
            resolve(wrong)


@pytest.mark.parametrize("name", algorithms)
def test_parameters_are_leaves_of_evosax_names(name: str) -> None:
    trainer = rx.EvosaxTrainer(2, name, Faulty(), jnp.zeros(3), popsize=16)
    leaves = jax.tree.leaves(trainer.es_params)
    assert all(isinstance(leaf, jax.Array) and not leaf.weak_type for leaf in leaves)
    assert same(
        rx.EvosaxTrainer(
            2,
            name,
            Faulty(),
            jnp.zeros(3),
            popsize=16,
            es_params=trainer.es_params,
        ).es_params,
        trainer.es_params,
    )


def test_an_own_subclass() -> None:
    class Shy(Open_ES):
        def _ask(self, key: Any, state: Any, params: Any) -> Any:
            population, state = super()._ask(key, state, params)
            return state.mean + 0.5 * (population - state.mean), state

    algorithm = Shy(
        population_size=16,
        solution=jnp.zeros(3),
        optimizer=optax.adam(0.1),
        std_schedule=optax.constant_schedule(0.2),
    )
    trainer = rx.EvosaxTrainer(80, algorithm, Faulty(), jnp.zeros(3), popsize=16)
    state = trainer.init_and_train_(jr.key(0), jnp.asarray(WITH_FAULTS - 1))
    assert jnp.allclose(trainer.params(state), 1, atol=0.2)


def test_populations_of_the_stein_kind() -> None:
    make = functools.partial(
        rx.EvosaxTrainer, 100, task=Faulty(), params_like=jnp.zeros(3)
    )
    trainer = make("SV_Open_ES", popsize=24, es_kws={"num_populations": 3})
    state = trainer.init_and_train_(jr.key(0), jnp.asarray(WITH_FAULTS - 1))
    assert state.es_state.mean.shape == (3, 3)
    assert trainer.params(state).shape == (3,)
    distances = jnp.sum((state.es_state.mean - state.best_params) ** 2, axis=-1)
    assert same(trainer.params(state), state.es_state.mean[jnp.argmin(distances)])
    one = make("SV_CMA_ES", popsize=16, es_kws={"num_populations": 1})
    assert one.params(one.init_and_train_(jr.key(0), jnp.asarray(8))).shape == (3,)
    with pytest.raises(ValueError, match="`num_populations=4`"):
        make("SV_CMA_ES", popsize=22)


def test_random_search_stays_around_its_start() -> None:
    start = jnp.full(3, 100.0)
    trainer = rx.EvosaxTrainer(
        20, "RandomSearch", Faulty(), start, popsize=16, es_kws={"std": 0.5}
    )
    state = trainer.init_and_train_(jr.key(0), jnp.asarray(WITH_FAULTS - 1))
    assert jnp.all(jnp.abs(state.best_params - start) < 4)
    assert same(trainer.params(state), state.best_params)


def test_a_hundred_refusals_warn() -> None:
    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.nan * jnp.sum(x), None

    class Nothing(rx.AbstractObserver):
        pass

    for callbacks in ((), (Nothing(),)):
        make = functools.partial(
            rx.EvosaxTrainer,
            strategy="SNES",
            task=task,
            params_like=jnp.zeros(2),
            popsize=4,
            callbacks=callbacks,
        )
        with pytest.warns(RuntimeWarning, match=r"\d+ updates in a row of SNES"):
            make(120).init_and_train(jr.key(0))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            make(99).init_and_train(jr.key(0))


def test_long_after_convergence() -> None:
    """CMA_ES's state turns NaN some hundred generations after it has converged."""
    trainer = rx.EvosaxTrainer(3000, "CMA_ES", Faulty(), jnp.zeros(2), popsize=16)
    run = jax.jit(
        lambda: trainer.init_and_train(jr.key(0), jnp.asarray(WITH_FAULTS - 1))
    )
    state, data = run()
    assert int(data["metrics"]["rejected"].sum()) > 0, "this run is too short"
    assert jnp.allclose(trainer.params(state), 1, atol=1e-3)
    assert state.best_fitness > -1e-9


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("name", ["SNES", "MR15_GA"])
def test_parameters_stay_finite_where_the_task_forgives(name: str) -> None:
    """A clipped action scores as well with infinite parameters as with large ones."""

    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(jnp.where(jnp.isfinite(x), jnp.tanh(x), -2.0)), None

    trainer = rx.EvosaxTrainer(
        5, name, task, jnp.zeros(4), popsize=64, es_params={"std_init": 2e38}
    )
    state, data = trainer.init_and_train(jr.key(0))
    assert jnp.all(data["metrics"]["failed"] > 0)
    assert jnp.all(jnp.isfinite(state.best_params))
    assert jnp.all(jnp.isfinite(trainer.params(state)))


def test_a_streak_in_the_middle_warns() -> None:
    class Outage(rx.AbstractTask[Any]):
        """A bowl with no usable value as long as `data` says so."""

        maximize: bool = eqx.field(static=True, default=False)

        def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
            return jnp.where(data, jnp.nan, jnp.sum(params**2)), None

    make = lambda steps: rx.EvosaxTrainer(
        steps, "SNES", Outage(), jnp.ones(2), popsize=4
    )
    state = make(10).init_and_train_(jr.key(0), jnp.asarray(False))
    with pytest.warns(RuntimeWarning, match="150 updates in a row"):
        state = make(150).train_(state, jr.key(0), jnp.asarray(True))
    with pytest.warns(RuntimeWarning, match="150 updates in a row"):
        make(10).train_(state, jr.key(0), jnp.asarray(False))
