"""What evolution promises beyond the laws of every trainer."""

import dataclasses
import inspect
import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from evosax.algorithms import SNES, algorithms

import realax as rx
from realax.tasks import Evaluation

from .helpers import close, python, rastrigin, same
from .reach import Reach


def sphere(x: Any, key: Any, data: Any = None) -> Any:
    del key
    shift = 0.0 if data is None else data
    return jnp.sum((x - shift) ** 2), None


def treacherous(x: Any, key: Any, data: Any) -> Any:
    """A bowl around `shift`, where `bad` strikes some share of the individuals."""
    value = jnp.sum((x - data["shift"]) ** 2)
    return jnp.where(jr.bernoulli(key, data["share"]), data["bad"], value), None


def _world(shift: float = 0.0, share: float = 0.0, bad: float = jnp.nan) -> Any:
    values = {"shift": shift, "share": share, "bad": bad}
    return {name: jnp.asarray(value) for name, value in values.items()}


def _treacherous(strategy: str, start: Any) -> Any:
    """One program for all of the tests below, whatever the start and the world."""
    return rx.EvosaxTrainer(150, strategy, treacherous, start, popsize=32)


STRATEGIES = ["CMA_ES", "Sep_CMA_ES", "OpenES", "SNES", "PGPE", "DES", "SimpleGA"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_learns(strategy: str) -> None:
    for seed in range(3):
        params, state, data = rx.evolve(
            2 * jnp.ones(2),
            treacherous,
            jr.key(seed),
            strategy=strategy,
            popsize=32,
            steps=150,
            data=_world(),
        )
        assert np.sum(np.asarray(params) ** 2) < 0.1 * 8.0
        assert state.best_fitness < 0.05
        best = np.asarray(state.best_params)
        assert np.isclose(np.sum(best**2), state.best_fitness)
        assert data["metrics"]["fitness"].shape == (150, 32)
        assert data["metrics"]["best_fitness"][-1] == state.best_fitness


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_bad_fitness_destroys_nothing(strategy: str) -> None:
    """Each kind strikes a third of the individuals."""
    trainer = _treacherous(strategy, jnp.ones(2))
    for bad in (jnp.nan, jnp.inf, -jnp.inf, 1e30):
        state, data = trainer.init_and_train(jr.key(0), _world(0.0, 0.3, bad))
        assert np.all(np.asarray(data["metrics"]["failed"]) > 0)
        assert np.isfinite(state.best_fitness) and state.best_fitness >= 0
        for params in (trainer.params(state), state.best_params):
            assert np.all(np.isfinite(params))
        best = np.asarray(state.best_params)
        assert np.sum(best**2) < 0.1, "it learns all the same"


def test_data_reaches_the_task() -> None:
    trainer = _treacherous("CMA_ES", jnp.zeros(2))
    for shift in (1.0, -2.0):
        state, _ = trainer.init_and_train(jr.key(0), _world(shift))
        assert np.allclose(trainer.params(state), shift, atol=0.05)


@pytest.mark.parametrize("strategy", ["CMA_ES", "SimpleGA"])
def test_nothing_usable_keeps_the_state(strategy: str) -> None:
    trainer, hopeless = _treacherous(strategy, jnp.ones(2)), _world(0.0, 1.0)
    first = trainer.initialize(jr.key(0), hopeless)
    with pytest.warns(RuntimeWarning, match="150 updates in a row"):
        state, data = trainer.train(first, jr.key(0), hopeless)
    assert same(state.es_state, first.es_state)
    assert np.all(data["metrics"]["rejected"]) and int(state.step) == 150
    assert np.all(np.asarray(data["metrics"]["failed"]) == 32)


def test_the_readme_snippets() -> None:
    trainer = rx.EvosaxTrainer(
        train_steps=32,
        strategy="CMA_ES",
        task=rastrigin,
        params_like=jnp.zeros((2,)),
        fitness_shaper=rx.FitnessShaper(maximize=False),
        popsize=32,
        eval_reps=1,
        n_devices=1,
    )
    state, data = trainer.init_and_train(jr.key(1))
    assert data["metrics"]["fitness"].shape == (32, 32)
    assert same(trainer.init_and_train_(jr.key(1)), state)
    prms = jnp.zeros((2,))
    three = rx.evolve(prms, rastrigin, jr.key(1), popsize=32, strategy="DES", steps=16)
    two = rx.evolve(
        prms, rastrigin, jr.key(1), popsize=32, strategy="DES", steps=16, use_scan=False
    )
    assert same(three[:2], two)


def test_maximising_is_minimising_the_negative() -> None:
    def negative(x: Any, key: Any, data: Any = None) -> Any:
        return -rastrigin(x, key, data)[0], None

    kws: dict[str, Any] = {"strategy": "CMA_ES", "popsize": 16, "steps": 20}
    up = rx.FitnessShaper(maximize=True)
    start = jnp.ones(3)
    down_params, down, _ = rx.evolve(start, rastrigin, jr.key(0), **kws)
    up_params, state, data = rx.evolve(
        start, negative, jr.key(0), fitness_shaper=up, **kws
    )
    assert same(up_params, down_params)
    assert state.best_fitness == -down.best_fitness
    assert jnp.all(jnp.diff(data["metrics"]["best_fitness"]) >= 0)
    assert jnp.all(data["metrics"]["fitness"] <= 0), "logged in the task's own sign"


def test_shaping_keeps_the_direction_of_a_task() -> None:
    shaper = rx.FitnessShaper(centered_rank=True)
    task = rx.GymnaxTask("CartPole-v1", max_steps=5)
    policy = rx.MLPPolicy(4, 2, 4, 1, key=jr.key(0))
    for wrap in (lambda task: task, eqx.filter_jit):
        trainer = rx.EvosaxTrainer(5, "SNES", wrap(task), policy, shaper)
        assert trainer.objective == ("mean_fitness", "max")
        assert trainer.fitness_shaper.centered_rank
    assert rx.EvosaxTrainer(5, "SNES", sphere, policy, shaper).objective[1] == "min"


def test_direction_of_a_task() -> None:
    class Height(rx.AbstractTask[Any]):
        maximize: bool = True

        def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
            return -jnp.sum(params**2), None

    trainer = rx.EvosaxTrainer(30, "SNES", Height(), jnp.ones(2), popsize=16)
    assert trainer.objective == ("best_fitness", "max")
    assert trainer.init_and_train_(jr.key(0)).best_fitness > -0.5
    shaper = rx.FitnessShaper(maximize=False)
    trainer = rx.EvosaxTrainer(30, "SNES", Height(), jnp.ones(2), shaper, popsize=16)
    assert trainer.init_and_train_(jr.key(0)).best_fitness < -2, "a shaper wins"


class Own(rx.AbstractTask[Any]):
    """A bowl whose own `evaluate` returns what `result` makes of its values."""

    result: Any = eqx.field(static=True)
    maximize: bool = False

    def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(params**2), None

    def evaluate(self, population: Any, keys: Any, data: Any = None) -> Any:
        return self.result(super().evaluate(population, keys, data)[0])


@pytest.mark.parametrize(
    ("dtype", "strategy"),
    [(jnp.bfloat16, "SNES"), (jnp.float16, "SimpleGA"), (jnp.int32, "SNES")],
)
def test_values_of_any_real_type(dtype: Any, strategy: str) -> None:
    """They are converted where a generation is scored, the first population's too."""
    task = Own(lambda values: (values.astype(dtype), None))
    params, state, data = rx.evolve(
        jnp.full(2, 5.0), task, jr.key(0), strategy=strategy, popsize=8, steps=20
    )
    assert data["metrics"]["fitness"].dtype == jnp.float32
    assert state.best_fitness < 25 and np.all(np.isfinite(params))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (
            lambda values: values,
            r"a pair \(values, aux\), but got an array",
        ),
        (lambda values: (values[:, 0], None), r"shape .* = \(8, 1\).* got .* \(8,\)"),
        (lambda values: ("high", None), "of shape .* but got 'high'"),
        (lambda values: (values + 1j, None), "must be real, but got complex64"),
        (lambda values: (values, "text"), "the aux of `Own.evaluate`"),
    ],
)
def test_wrong_values(result: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        rx.evolve(jnp.ones(2), Own(result), jr.key(0), popsize=8, steps=2)


def test_the_aux_is_split_over_devices() -> None:
    task = Own(lambda values: (values, {"mean": jnp.mean(values)}))
    run = lambda n: rx.evolve(
        jnp.ones(2), task, jr.key(0), popsize=8, steps=2, n_devices=n
    )
    run(1)
    with pytest.raises(ValueError, match=r"\(pop, reps\).* at `\['mean'\]`"):
        run(2)


def test_what_only_says_how_a_run_is_executed() -> None:
    marked = {
        field.name
        for field in dataclasses.fields(rx.EvosaxTrainer)
        if field.metadata.get("execution")
    }
    assert marked == {"n_devices"}


def test_every_evaluation_has_its_own_key() -> None:
    def dice(x: Any, key: Any, data: Any = None) -> Any:
        return jr.uniform(key) + 0 * jnp.sum(x), jr.bits(key)

    trainer = rx.EvosaxTrainer(10, "SNES", dice, jnp.zeros(2), popsize=8, eval_reps=5)
    _, data = trainer.init_and_train(jr.key(0))
    bits = np.asarray(data["metrics"]["eval_data"])
    assert bits.shape == (10, 8, 5)
    assert len(np.unique(bits)) == bits.size


def test_repetitions_are_averaged() -> None:
    def noisy(x: Any, key: Any, data: Any = None) -> Any:
        value = jr.normal(key) + jnp.sum(x**2)
        return value, value

    trainer = rx.EvosaxTrainer(5, "SNES", noisy, jnp.zeros(2), popsize=8, eval_reps=4)
    _, data = trainer.init_and_train(jr.key(0))
    metrics = data["metrics"]
    assert jnp.allclose(metrics["fitness"], metrics["eval_data"].mean(-1), atol=1e-6)


def test_whole_models_and_odd_leaves() -> None:
    class Model(eqx.Module):
        policy: rx.MLPPolicy
        half: Any
        count: Any
        key: Any
        name: str = eqx.field(static=True)

    model = Model(
        rx.MLPPolicy(3, 2, 4, 1, activation=jax.nn.relu, key=jr.key(0)),
        jnp.ones(3, jnp.bfloat16),
        jnp.arange(4),
        jr.key(5),
        "robot",
    )

    def task(model: Model, key: Any, data: Any = None) -> Any:
        assert model.name == "robot" and model.count.shape == (4,)
        out, _ = model.policy(jnp.ones(3), None, key)
        return jnp.sum(out**2) + jnp.sum(model.half.astype(jnp.float32)) ** 2, None

    for strategy in ("SNES", "SimpleGA"):
        params, state = rx.evolve(
            model,
            task,
            jr.key(1),
            strategy=strategy,
            popsize=8,
            steps=10,
            use_scan=False,
        )
        for found in (params, state.best_params):
            assert jax.tree.structure(found) == jax.tree.structure(model)
            assert found.half.dtype == jnp.bfloat16
            assert not same(found.half, model.half)
            assert same((found.count, found.key), (model.count, model.key))
            assert found.policy.mlp.activation is jax.nn.relu
    with pytest.raises(AttributeError, match="best_params"):
        _ = state.mean


def test_a_trainer_inside_a_task() -> None:
    """The outer strategy finds the step size with which the inner one learns."""
    inner = rx.EvosaxTrainer(10, "SNES", sphere, jnp.full(2, 3.0), popsize=8)

    def task(log_std: Any, key: Any, data: Any = None) -> Any:
        std = jnp.exp(log_std[0])
        trainer = eqx.tree_at(lambda t: t.es_params.std_init, inner, std)
        return trainer.init_and_train_(key).best_fitness, None

    start = jnp.full(1, -4.0)
    found, _, data = rx.evolve(
        start, task, jr.key(0), strategy="CMA_ES", popsize=8, eval_reps=4, steps=20
    )
    fitness = data["metrics"]["mean_fitness"]
    assert fitness[-1] < 0.1 * fitness[0]
    assert found[0] > -2


def test_double_precision() -> None:
    code = (
        "import jax; jax.config.update('jax_enable_x64', True)\n"
        "import jax.numpy as jnp, realax as rx\n"
        "def task(x, key, data=None):\n"
        "    return jnp.sum(x['a']**2) + jnp.sum(x['b']), None\n"
        "start = {'a': jnp.ones(2), 'b': jnp.ones(2, jnp.float32)}\n"
        "for name in ('CMA_ES', 'OpenES', 'SimpleGA'):\n"
        "    p, s, d = rx.evolve(start, task, jax.random.key(0), strategy=name,\n"
        "                        popsize=8, steps=5)\n"
        "    print(p['a'].dtype, p['b'].dtype, s.best_fitness.dtype, s.step)"
    )
    result = python("-W", "error", "-c", code)
    assert result.stdout.splitlines() == 3 * ["float64 float32 float64 5"], (
        result.stderr
    )


# CMA_ES's eigenvectors magnify the last bits, which differ from processor to processor.
@pytest.mark.parametrize(("name", "steps"), [("SNES", 30), ("CMA_ES", 8)])
def test_is_a_loop_over_evosax(name: str, steps: int) -> None:
    popsize, start, key = 16, jnp.full(3, 2.0), jr.key(4)
    trainer = rx.EvosaxTrainer(steps, name, sphere, start, popsize=popsize)
    first = trainer.initialize(jr.key(0))
    algorithm, params = algorithms[name](popsize, start), trainer.es_params

    def generation(state: Any, step: Any) -> Any:
        ask_key, _, tell_key = jr.split(jr.fold_in(key, step), 3)
        population, state = algorithm.ask(ask_key, state, params)
        fitness = jnp.sum(population**2, axis=-1)
        state, _ = algorithm.tell(tell_key, population, fitness, state, params)
        return state, None

    by_hand, _ = jax.lax.scan(generation, first.es_state, jnp.arange(steps))
    mean = trainer.train_(first, key).es_state.mean
    assert close(mean, by_hand.mean, *((1e-3, 1e-3) if name == "CMA_ES" else ()))


COLLECTIVES = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"


def _collectives(task: Any, **kws: Any) -> list[str]:
    """What the devices say to each other in the compiled program of a run."""
    trainer = rx.EvosaxTrainer(
        5, task=task, params_like=jnp.ones(6), popsize=8, n_devices=2, **kws
    )
    state = trainer.initialize(jr.key(0))
    run = jax.jit(lambda state, key: trainer.train(state, key))
    text = run.lower(state, jr.key(1)).compile().as_text()
    return re.findall(rf"\b({COLLECTIVES})(?:-start)?\(", text)


@pytest.mark.parametrize("strategy", ["Open_ES", "CMA_ES", "SimpleGA"])
def test_devices_tell_each_other_the_values_alone(strategy: str) -> None:
    """XLA spread the algorithm too: 21 to 25 messages a generation."""

    def two_more(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(x**2), {"length": x[0], "path": x}

    assert _collectives(rastrigin, strategy=strategy) == ["all-gather"]
    if strategy == "Open_ES":
        assert _collectives(two_more, strategy=strategy) == 3 * ["all-gather"]


# Here XLA makes the update of the mean and the deviation in another order where the
# values come from an all-gather: a few units in the last place.
ROUNDED = {"SNES", "PGPE"}
ELEVEN = ["CMA_ES", "Open_ES", *sorted(ROUNDED), "SimpleGA", "Sep_CMA_ES", "SV_CMA_ES"]
ELEVEN += ["DiscoveredES", "DE", "PSO", "xNES"]


@pytest.mark.parametrize("strategy", ELEVEN)
def test_devices_change_no_bit(strategy: str) -> None:
    """With keys, data and aux, each of which is divided or copied."""

    def task(x: Any, key: Any, data: Any) -> Any:
        value = rastrigin(x - data["shift"], key)[0] + jr.normal(key)
        return value, {"value": value}

    one, two = [
        rx.EvosaxTrainer(
            50, strategy, task, jnp.ones(10), popsize=16, eval_reps=2, n_devices=n
        ).init_and_train(jr.key(0), {"shift": jnp.asarray(0.5)})
        for n in (1, 2)
    ]
    assert close(one, two) if strategy in ROUNDED else same(one, two)
    assert [len(run[0].best_flat.devices()) for run in (one, two)] == [1, 2]


def test_what_is_committed_to_one_device() -> None:
    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum((x - data) ** 2), None

    trainer = rx.EvosaxTrainer(3, "SNES", task, jnp.ones(2), popsize=8, n_devices=2)
    data, expected = (
        jnp.asarray(0.5),
        trainer.init_and_train(jr.key(0), jnp.asarray(0.5)),
    )
    for device in jax.devices()[:2]:
        put = lambda tree, device=device: jax.device_put(tree, device)
        found = trainer.init_and_train(put(jr.key(0)), put(data))
        assert same(found, expected)
        state = put(trainer.initialize(jr.key(1)))
        assert int(trainer.train_(state, put(jr.key(0)), data).step) == 3
        there = eqx.tree_at(lambda t: t.params_like, trainer, put(jnp.ones(2)))
        assert same(there.init_and_train(jr.key(0), put(data)), expected)


def test_arrays_are_placed_once() -> None:
    make = lambda n: rx.EvosaxTrainer(3, "SNES", sphere, jnp.ones(2), n_devices=n)
    tree = {"key": jr.key(0), "array": jnp.ones(2), "numpy": np.ones(2), "f": sphere}
    assert make(1).placed(tree) is tree
    placed = make(2).placed(tree)
    assert same([placed[k] for k in ("key", "array")], [tree["key"], tree["array"]])
    assert all(len(placed[k].devices()) == 2 for k in ("key", "array"))
    assert placed["numpy"] is tree["numpy"] and placed["f"] is sphere
    again = make(2).placed(placed)
    assert all(again[name] is placed[name] for name in tree)
    traced = jax.jit(lambda x: make(2).placed({"x": x, "y": tree["array"]}))
    assert len(traced(jnp.ones(2))["x"].devices()) == 1


def test_devices_change_nothing_in_an_environment() -> None:
    task = rx.make(Reach(), max_steps=7, data_fn=lambda episode: episode.obs)
    policy = rx.MLPPolicy(3, 2, 4, 1, key=jr.key(0))
    one, two = [
        rx.EvosaxTrainer(
            3, "SNES", task, policy, popsize=8, eval_reps=2, n_devices=n
        ).init_and_train(jr.key(0))
        for n in (1, 2)
    ]
    assert close(one, two)
    metrics = two[1]["metrics"]
    assert metrics["eval_data"].shape == (3, 8, 2, 7, 3)
    assert len(np.unique(metrics["fitness"])) > 2, "individuals differ"


def test_parameters_by_name() -> None:
    make = lambda **kws: rx.EvosaxTrainer(5, "SNES", sphere, jnp.ones(2), **kws)
    full = make().es_params
    assert float(make(es_params={"std_init": 0.3}).es_params.std_init) == pytest.approx(
        0.3
    )
    assert same(make(es_params=full).es_params, full)
    with pytest.raises(ValueError, match="'std_init'"):
        make(es_params={"std_int": 0.3})


def test_an_instance_is_taken_as_it_is() -> None:
    tree = {"a": jnp.ones(2), "b": jnp.zeros((2, 1))}

    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(x["a"] ** 2) + jnp.sum((x["b"] - 1) ** 2), None

    algorithm = SNES(population_size=16, solution=tree)
    params, state, _ = rx.evolve(
        tree, task, jr.key(0), strategy=algorithm, popsize=16, steps=60
    )
    assert state.best_fitness < 0.01
    assert jnp.allclose(params["b"], 1, atol=0.1)
    with pytest.raises(ValueError, match=r"\(16, 4\)"):
        rx.EvosaxTrainer(5, algorithm, task, tree, popsize=8)


def test_constructor_arguments_by_value() -> None:
    trainer = rx.EvosaxTrainer(
        5,
        "OpenES",
        sphere,
        jnp.ones(2),
        popsize=8,
        es_kws={"optimizer": "sgd", "learning_rate": 0.5, "std": 0.2},
    )
    state = trainer.initialize(jr.key(0))
    assert float(state.es_state.std) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("kws", "words"),
    [
        ({"strategy": "CMAES"}, "'CMA_ES'"),
        ({"strategy": "SNES", "es_kws": {"optimiser": "adam"}}, "'optimizer'"),
        ({"strategy": "CMA_ES", "es_kws": {"std": 1.0}}, "takes no 'std'"),
        ({"strategy": "SNES", "es_params": {"std_init": jnp.ones(3)}}, "map over"),
        ({"strategy": "PersistentES", "es_params": {"T": 7.9}}, "of kind int32"),
        ({"strategy": "OpenES", "es_kws": {"std_schedule": 0.1}}, "goes into `std`"),
        ({"strategy": "SNES", "es_kws": {"optimizer": optax.adam}}, r"optax\.adam\("),
        (
            {
                "strategy": "SNES",
                "es_kws": {"optimizer": "apply_updates", "learning_rate": 1.0},
            },
            "no optimiser",
        ),
        ({"strategy": "iAMaLGaM_Full", "popsize": 1}, "refuses `popsize=1`"),
        ({"strategy": "SNES", "es_kws": {"optimizer": "adam"}}, "together"),
        (
            {
                "strategy": "SNES",
                "es_kws": {"optimizer": "adamm", "learning_rate": 1.0},
            },
            "'adam'",
        ),
        ({"strategy": "OpenES", "popsize": 7}, "must be even"),
        ({"strategy": "SNES", "popsize": 7, "n_devices": 2}, "6 and 8"),
        ({"strategy": "SNES", "popsize": 6, "n_devices": 3}, "jax_num_cpu_devices"),
        ({"strategy": "SNES", "popsize": 0}, "at least 1, but got 0"),
    ],
)
def test_wrong_settings(kws: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rx.EvosaxTrainer(5, task=sphere, params_like=jnp.ones(2), **kws)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (lambda x: (x, None), "signature"),
        (lambda x, key, data=None: jnp.sum(x), "must return a pair"),
        (lambda x, key, data=None: (x, None), r"shape \(2,\)"),
        (lambda x, key, data=None: (jnp.sum(x), {"a": "text"}), r"\['a'\]"),
        (lambda x, key, data=None: (jnp.sum(x) + 1j, None), "must be real"),
    ],
)
def test_wrong_tasks(task: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        rx.EvosaxTrainer(5, "SNES", task, jnp.ones(2)).init_and_train(jr.key(0))


def test_shaping() -> None:
    population = jnp.asarray([[0.0], [1.0], [2.0]])
    fitness = jnp.asarray([3.0, 1.0, 2.0])
    shape = lambda **kws: rx.FitnessShaper(**kws)(population, fitness).tolist()
    assert shape() == [3, 1, 2]
    assert shape(maximize=True) == [-3, -1, -2]
    assert shape(centered_rank=True) == [0.5, -0.5, 0]
    assert shape(norm_range=True) == [1, -1, 0]
    assert shape(w_decay=1.0) == [3, 2, 6]
    assert np.allclose(np.mean(shape(z_score=True)), 0, atol=1e-6)
    assert np.allclose(np.std(shape(z_score=True)), 1, atol=1e-3)


@pytest.mark.parametrize("strategy", ["SNES", "SimpleGA"])
def test_a_step_is_ask_evaluate_tell(strategy: str) -> None:
    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(x["a"] ** 2) + jr.normal(key), jr.bits(key)

    start = {"a": jnp.ones(3), "count": jnp.arange(2)}
    trainer = rx.EvosaxTrainer(3, strategy, task, start, popsize=8, eval_reps=2)
    state, key = trainer.initialize(jr.key(0)), jr.key(1)
    asked = trainer.ask(state, key)
    assert asked.population.shape == (8, 3) and asked.keys.shape == (8, 2)
    assert asked.individuals["a"].shape == (8, 3)
    assert asked.individuals["count"].shape == (8, 2)
    results = trainer.evaluate(state, asked)
    assert results.values.shape == results.aux.shape == (8, 2)
    told = trainer.tell(state, asked, results)
    assert close(told, trainer.train_step(state, key))
    # The host may have evaluated it.
    values = np.sum(np.asarray(asked.individuals["a"]) ** 2, axis=-1)[:, None]
    state, metrics = trainer.tell(state, asked, Evaluation(jnp.asarray(values)))
    assert np.array_equal(metrics["fitness"], values[:, 0])
    assert metrics["eval_data"] is None and int(state.step) == 1


POPULATION_BASED = [
    "SimpleGA",
    "MR15_GA",
    "SAMR_GA",
    "GESMR_GA",
    "LearnedGA",
    "DifferentialEvolution",
    "DiffusionEvolution",
    "PSO",
]


@pytest.mark.parametrize("strategy", POPULATION_BASED)
def test_the_first_population_is_evaluated_before_the_first_step(strategy: str) -> None:
    start = np.full(2, 3.0, np.float32)
    trainer = _treacherous(strategy, jnp.asarray(start))
    state = trainer.initialize(jr.key(0), _world(1.0))
    population = np.asarray(state.es_state.population)
    assert same(population[0], start) and int(state.step) == 0
    costs = np.sum((population - 1) ** 2, axis=-1)
    assert np.isclose(state.best_fitness, np.min(costs))
    assert close(state.best_flat, population[np.argmin(costs)])
    if strategy not in ("LearnedGA", "DiffusionEvolution"):
        assert close(np.sort(state.es_state.fitness), np.sort(costs))
    # Of one without a usable value nothing is kept.
    state = trainer.initialize(jr.key(0), _world(jnp.nan))
    assert np.isinf(state.best_fitness) and same(state.best_flat, start)


@pytest.mark.parametrize("strategy", POPULATION_BASED)
def test_the_first_population_is_gone_on_from(strategy: str) -> None:
    trainer = _treacherous(strategy, 3 * jnp.ones(2))
    begin = 8.0  # the value of the start, with the shift 1
    state = trainer.initialize(jr.key(0), _world(1.0))
    final, data = trainer.train(state, jr.key(1), _world(1.0))
    assert data["metrics"]["best_fitness"][0] <= state.best_fitness
    assert final.best_fitness < 0.01 * begin
    # A population without a usable value is replaced by the first usable one.
    state = trainer.initialize(jr.key(0), _world(jnp.nan))
    final, data = trainer.train(state, jr.key(0), _world(1.0))
    assert not np.any(data["metrics"]["rejected"])
    assert final.best_fitness < 0.01 * begin
    assert np.all(np.isfinite(final.best_params))


def test_the_first_population_meets_data_and_observations() -> None:
    def loss(x: Any, key: Any, batch: Any) -> Any:
        assert batch.shape == (5, 1)
        return jnp.mean((x - batch) ** 2), None

    data = jnp.arange(20.0)[:, None]
    trainer = rx.EvosaxTrainer(
        3, "SimpleGA", rx.Minibatch(loss, 5), jnp.zeros(1), popsize=4
    )
    first = trainer.initialize(jr.key(0), data)
    draw = jax.jit(trainer.task.batch)
    batch = np.asarray(draw(data, first.shuffle_key, first.step))
    assert np.isclose(np.mean((first.best_flat - batch) ** 2), first.best_fitness)
    task = rx.make(Reach(far=jnp.inf), max_steps=5, normalize_obs=True, lanes=0)
    policy = rx.MLPPolicy(3, 2, 4, 1, key=jr.key(0))
    trainer = rx.EvosaxTrainer(2, "SimpleGA", task, policy, popsize=4)
    state = trainer.initialize(jr.key(0))
    assert state.obs_stats is not None and float(state.obs_stats.count) == 4 * 5
    assert float(trainer.train_(state, jr.key(0)).obs_stats.count) == 3 * 4 * 5


def test_a_row_of_the_log() -> None:
    evolution = rx.EvosaxTrainer(1, "SNES", sphere, jnp.ones(3), popsize=8)
    gradient = rx.OptaxTrainer(1, "sgd", lambda key: jnp.ones(3), sphere)
    rows = rx.default_es_metrics, rx.default_grad_metrics
    for trainer, row in zip((evolution, gradient), rows, strict=True):
        state, metrics = trainer.train_step(trainer.initialize(jr.key(0)), jr.key(1))
        assert same(trainer.log_row(state, metrics), row(state, metrics)[0])


OPTIONS = {"xla_cpu_enable_fast_math": False}


def _ones(key: Any) -> Any:
    return jnp.ones(2)


@pytest.mark.parametrize(
    "make",
    [
        lambda task, **kws: rx.EvosaxTrainer(2, "SNES", task, jnp.ones(2), **kws),
        lambda task, **kws: rx.OptaxTrainer(
            2, "sgd", lambda k: jnp.ones(2), task, **kws
        ),
    ],
    ids=["evolution", "gradient"],
)
def test_compiler_options(make: Any) -> None:
    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(x**2), None

    task.compiler_options = {"xla_cpu_prefer_vector_width": 512}  # pyright: ignore[reportFunctionMemberAccess]
    assert make(task).xla_options == {"xla_cpu_prefer_vector_width": "512"}
    trainer = make(task, compiler_options=OPTIONS)
    assert trainer.xla_options == {"xla_cpu_enable_fast_math": "False"}
    again = dataclasses.replace(trainer, train_steps=3)
    assert again.xla_options == trainer.xla_options
    assert not make(task, compiler_options={}).xla_options
    for wrong in ("fast", {"a": None}, {"a": [1]}):
        with pytest.raises(TypeError, match="`compiler_options` of .*Trainer"):
            make(task, compiler_options=wrong)


def test_compiler_options_in_one_call() -> None:
    kws: Any = {"steps": 2, "compiler_options": OPTIONS, "use_scan": False}
    rx.evolve(jnp.ones(2), sphere, jr.key(0), strategy="SNES", **kws)
    rx.optimize(jnp.ones(2), sphere, jr.key(0), **kws)
    for run in (rx.evolve, rx.optimize):
        with pytest.raises(TypeError, match="`compiler_options` of .* a dict"):
            run(jnp.ones(2), sphere, jr.key(0), compiler_options="fast")


def test_the_keywords_of_one_call() -> None:
    """Interactive shells complete from this signature."""
    names = inspect.signature(rx.evolve).parameters
    defaults = {name: names[name].default for name in ("popsize", "steps", "strategy")}
    assert defaults == {"popsize": 64, "steps": 1024, "strategy": "OpenES"}
    assert {"strategy", "steps", "popsize", "data", "use_scan"} <= set(names)
    assert all(one.kind is not one.VAR_KEYWORD for one in names.values())
