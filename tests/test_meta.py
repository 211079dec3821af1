"""Training inside of tasks, restarts, populations, and several tasks as one."""

import dataclasses
import json
import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx

from .helpers import close, rastrigin, same
from .reach import reach


RATE = 0.01


def _start(key: Any) -> Any:
    return jnp.ones(3)


def _square(params: Any, key: Any, data: Any = None) -> Any:
    return jnp.sum(params**2), None


def _put(trainer: Any, params: Any) -> Any:
    return eqx.tree_at(lambda one: one.learning_rate, trainer, params)


def _second(metrics: Any) -> Any:
    return metrics["loss"][1]


def gradient(steps: int = 20, task: Any = _square, **more: Any) -> Any:
    return rx.OptaxTrainer(steps, "sgd", _start, task, RATE, **more)


# --- TrainerTask ---


def test_the_value_is_that_of_the_inner_run() -> None:
    """Descent on a square has a closed form: a factor of `1 - 2 rate` in each step."""
    for inject in ("learning_rate", _put):
        task = rx.TrainerTask(gradient(), inject)
        for rate in (0.01, 0.1):
            value, aux = task(jnp.asarray(rate), jr.key(0))
            expected = 3 * (1 - 2 * rate) ** (2 * 19)
            assert float(value) == pytest.approx(expected, rel=1e-4)
            assert float(aux["score"]) == float(value)
    assert not task.maximize and task.differentiable and task.stochastic
    score = rx.TrainerTask(gradient(), "learning_rate", _second, maximize=True)
    assert float(score(jnp.asarray(0.1), jr.key(0))[0]) == pytest.approx(3 * 0.8**2)
    assert score.maximize


def test_the_gradient_through_training() -> None:
    task = rx.TrainerTask(gradient(), "learning_rate")
    slope = jax.grad(lambda rate: task(rate, jr.key(0))[0])(0.1)
    expected = -3 * 2 * 38 * (1 - 2 * 0.1) ** 37
    assert float(slope) == pytest.approx(expected, rel=1e-3)
    outer = rx.OptaxTrainer(40, "adam", lambda key: jnp.asarray(RATE), task, 0.02)
    state, data = outer.init_and_train(jr.key(0))
    losses = np.asarray(data["metrics"]["loss"])
    assert losses[-1] < 1e-3 * losses[0]
    # Third: gradient descent on what gradient descent on gradient descent reaches.
    third = rx.TrainerTask(outer, "learning_rate")
    slope = jax.grad(lambda rate: third(rate, jr.key(0))[0])(0.001)
    step = 2e-4
    ends = [float(third(jnp.asarray(0.001 + x), jr.key(0))[0]) for x in (step, -step)]
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=0.05)
    assert int(state.step) == 40


def test_evolution_of_what_trains() -> None:
    """The best rate of 20 steps on a square is a half."""
    task = rx.TrainerTask(gradient(), "learning_rate")
    options: dict[str, Any] = {"steps": 40, "popsize": 16, "strategy": "CMA_ES"}
    best, _, data = rx.evolve(jnp.asarray(RATE), task, jr.key(0), **options)
    assert abs(float(best) - 0.5) < 0.35
    assert float(data["metrics"]["best_fitness"][-1]) < 1e-6


def test_at_any_depth() -> None:
    es = rx.EvosaxTrainer(5, "SNES", rastrigin, jnp.full(2, 3.0), popsize=6)
    over_es = rx.TrainerTask(es, "es_params.std_init")
    _, _, data = rx.evolve(jnp.asarray(1.0), over_es, jr.key(0), steps=3, popsize=4)
    assert data["metrics"]["eval_data"]["score"].shape[:2] == (3, 4)
    assert over_es.maximize is False
    task = rx.TrainerTask(gradient(5), "learning_rate")
    middle = rx.EvosaxTrainer(2, "SNES", task, jnp.asarray(RATE), popsize=4)
    deep = rx.TrainerTask(middle, "es_params.std_init")
    value, _ = deep(jnp.asarray(0.1), jr.key(0))
    alone = eqx.tree_at(lambda t: t.es_params.std_init, middle, jnp.asarray(0.1))
    _, record = alone.init_and_train(jr.key(0))
    name, _ = middle.objective
    assert close(value, record["metrics"][name][-1])


def test_over_reinforcement_learning() -> None:
    nets = {
        "actor": lambda key: eqx.nn.MLP(3, 3, 4, 1, key=key),
        "critic": lambda key: eqx.nn.MLP(3, "scalar", 4, 1, key=key),
    }
    task = reach(discrete=True)
    sizes = {"num_envs": 2, "num_steps": 8, "num_minibatches": 1}
    ppo = rx.PPO(task, train_steps=2, **nets, **sizes)
    meta = rx.TrainerTask(ppo, "learning_rate")
    assert meta.maximize
    _, _, data = rx.evolve(jnp.asarray(0.01), meta, jr.key(0), steps=2, popsize=2)
    assert np.isfinite(np.asarray(data["metrics"]["fitness"])).all()


def test_what_the_inner_run_records() -> None:
    inner = gradient(4, record=lambda state: state.params)
    task = rx.TrainerTask(inner, "learning_rate")
    _, aux = task(jnp.asarray(0.1), jr.key(0))
    assert aux["record"].shape == (4, 3)


def test_wrong_trainer_tasks() -> None:
    watched = gradient(progress_bar=True)
    with pytest.raises(ValueError, match="`trainer` of `TrainerTask` must be without"):
        rx.TrainerTask(watched, "learning_rate")
    with pytest.raises(ValueError, match="no 'rate'. Closest: 'learning_rate'"):
        rx.TrainerTask(gradient(), "rate")
    with pytest.raises(TypeError, match="`inject` of `TrainerTask` must be"):
        rx.TrainerTask(gradient(), 3)  # pyright: ignore
    with pytest.raises(TypeError, match="`score` of `TrainerTask` must be"):
        rx.TrainerTask(gradient(), "learning_rate", "loss")  # pyright: ignore
    curve = rx.TrainerTask(gradient(), "learning_rate", lambda metrics: metrics["loss"])
    with pytest.raises(TypeError, match="`score` of `TrainerTask` must return one num"):
        curve(jnp.asarray(0.1), jr.key(0))
    with pytest.raises(ValueError, match="has the shape \\(\\), but got"):
        rx.TrainerTask(gradient(), "learning_rate")(jnp.ones(3), jr.key(0))
    nothing = rx.TrainerTask(gradient(), lambda trainer, params: None)
    with pytest.raises(TypeError, match="`inject` .* must return the trainer"):
        nothing(jnp.asarray(0.1), jr.key(0))


# --- MultiTask ---


def _left(params: Any, key: Any, data: Any = None) -> Any:
    return jnp.sum((params - 1) ** 2) + jr.normal(key), {"first": params[0]}


def _right(params: Any, key: Any, data: Any = None) -> Any:
    return jnp.sum((params + 1) ** 2), None


def test_a_sum_of_tasks() -> None:
    task = rx.MultiTask((_left, _right), weights=(3, 1))
    params, key = jnp.array([0.5, -2.0]), jr.key(1)
    parts = [f(params, jr.fold_in(key, i)) for i, f in enumerate((_left, _right))]
    value, aux = task(params, key)
    assert close(value, 3 * parts[0][0] + parts[1][0])
    assert close(aux["fitness"], {"_left": parts[0][0], "_right": parts[1][0]})
    assert close(aux["aux"], {"_left": {"first": params[0]}})
    keys = jr.split(key, (4, 2))
    population = jr.normal(key, (4, 2))
    values, found = task.evaluate(population, keys)
    for i in range(4):
        for rep in range(2):
            one, parts_of_it = task(population[i], keys[i, rep])
            assert close(values[i, rep], one)
            picked = jax.tree.map(lambda x, i=i, rep=rep: x[i, rep], found)
            assert close(picked, parts_of_it)
    assert task.stochastic and not task.maximize
    assert not rx.MultiTask((_right,)).stochastic
    assert rx.MultiTaskAggregator is rx.MultiTask


def test_each_fitness_is_reported_by_name() -> None:
    tasks = {
        name: rx.GymnaxTask("CartPole-v1", max_steps=steps)
        for name, steps in (("short", 5), ("long", 40))
    }
    policy = rx.MLPPolicy(4, 2, 4, 1, key=jr.key(0))
    task = rx.MultiTask(tasks, weights=[2.0, 1.0])
    assert task.maximize and not task.differentiable
    _, _, data = rx.evolve(policy, task, jr.key(0), steps=2, popsize=4)
    metrics = data["metrics"]
    found = metrics["eval_data"]["fitness"]
    total = np.mean(2 * found["short"] + found["long"], axis=-1)
    assert np.allclose(total, metrics["fitness"])
    assert float(found["short"].max()) == 5.0


def test_batches_of_each_task() -> None:
    data = jnp.arange(40.0).reshape(20, 2)

    def distance(params: Any, key: Any, rows: Any) -> Any:
        return jnp.mean((params - rows) ** 2), None

    task = rx.MultiTask({"batch": rx.Minibatch(distance, 4), "all": distance})
    drawn, found = task.draw(data, jr.key(0), jnp.asarray(0))
    assert [rows.shape for rows in found] == [(4, 2), (20, 2)]
    value, _ = drawn(jnp.zeros(2), jr.key(0), found)
    expected = sum(jnp.mean(rows**2) for rows in found)
    assert close(value, expected)


def test_wrong_tasks() -> None:
    with pytest.raises(TypeError, match="`tasks` of `MultiTask` must be a tuple"):
        rx.MultiTask(())
    with pytest.raises(TypeError, match="`tasks` of `MultiTask` must be a tuple"):
        rx.MultiTask(_left)  # pyright: ignore
    with pytest.raises(ValueError, match="different names, but two are '_left'"):
        rx.MultiTask((_left, _left))
    cartpole = rx.GymnaxTask("CartPole-v1", 10)
    with pytest.raises(ValueError, match="'a' is minimised, 'b' is maximised"):
        rx.MultiTask({"a": _left, "b": cartpole})
    with pytest.raises(ValueError, match="`weights` of `MultiTask` must be 2 numbers"):
        rx.MultiTask((_left, _right), weights=(1.0,))
    with pytest.raises(ValueError, match="`weights` of `MultiTask` must be finite"):
        rx.MultiTask((_left, _right), weights=(1.0, float("nan")))
    with pytest.raises(ValueError, match="`names` of `MultiTask` must be 2"):
        rx.MultiTask((_left, _right), names=("a",))
    with pytest.raises(TypeError, match="`weights` of `MultiTask` must be numbers"):
        rx.MultiTask((_left, _right), weights=("a", "b"))  # pyright: ignore


# --- Restarting ---


def _seeded(key: Any) -> Any:
    return jr.uniform(key, (2,), minval=-3, maxval=3)


def test_restarts_are_those_of_a_loop() -> None:
    """Step by step, the same as a loop on the host."""
    inner = rx.OptaxTrainer(1, "sgd", _seeded, rastrigin, 0.01)
    trainer = rx.Restarting(inner, rx.EarlyStopping(patience=4), train_steps=30)
    key = jr.key(0)
    state, data = trainer.init_and_train(key)
    init_key, run_key = jr.split(key)
    current, step = inner.initialize(init_key), eqx.filter_jit(inner.train_step)
    best, since, last = np.inf, 0, np.inf
    restarts, best_state = list[int](), current
    for i in range(30):
        inner_key, new_key = jr.split(jr.fold_in(run_key, i))
        current, metrics = step(current, jr.fold_in(inner_key, current.step))
        current = dataclasses.replace(current, step=current.step + 1)
        loss = float(metrics["loss"])
        since, last = (0, loss) if loss < last else (since + 1, last)
        if loss < best:
            best, best_state = loss, current
        if since >= 4:
            current, since, last = inner.initialize(new_key), 0, np.inf
            restarts.append(i + 1)
    counts = np.asarray(data["metrics"]["restarts"])
    assert (np.flatnonzero(np.diff(counts, prepend=0)) + 1).tolist() == restarts
    assert restarts, "it never began anew"
    assert close(state.inner.params, current.params)
    assert float(state.best_value) == pytest.approx(best)
    assert close(trainer.params(state), best_state.params)
    recording = dataclasses.replace(inner, record=lambda state: state.params)
    again = rx.Restarting(recording, rx.EarlyStopping(patience=4), train_steps=3)
    assert again.init_and_train(key)[1]["record"].shape == (3, 2)
    ongoing = dataclasses.replace(trainer, keep_best=False)
    state, _ = ongoing.init_and_train(key)
    assert state.best is None and close(ongoing.params(state), current.params)


def test_restarts_by_a_function() -> None:
    inner = rx.OptaxTrainer(1, "sgd", _seeded, rastrigin, 0.01)

    def each_fifth(state: Any, metrics: Any) -> Any:
        return state.step >= 5

    trainer = rx.Restarting(inner, each_fifth, train_steps=21)
    state, data = trainer.init_and_train(jr.key(0))
    assert int(state.restarts) == 4 and int(state.inner.step) == 1
    best = np.asarray(data["metrics"]["best_value"])
    assert (np.minimum.accumulate(np.asarray(data["metrics"]["loss"])) == best).all()
    assert trainer.objective == ("best_value", "min")
    evaluator = rx.Evaluator(_square, every=6)
    lanes = rx.Restarting(
        rx.Replicated(inner, 3), each_fifth, train_steps=6, callbacks=evaluator
    )
    state, _ = lanes.init_and_train(jr.key(0))
    found = lanes.params(state)
    assert found.shape == (3, 2)
    assert evaluator.best_return == pytest.approx(
        float(jnp.sum(found**2) / 3), rel=1e-5
    )


def test_wrong_restarts() -> None:
    rule = rx.EarlyStopping(patience=2)
    with pytest.raises(TypeError, match="`when` of `Restarting` must be a stopping"):
        rx.Restarting(gradient(), 20)  # pyright: ignore
    with pytest.raises(
        ValueError, match="`trainer` of `Restarting` must be without st"
    ):
        rx.Restarting(gradient(callbacks=rule), rule)
    with pytest.raises(ValueError, match="must be without observers"):
        rx.Restarting(gradient(progress_bar=True), rule)
    with pytest.raises(TypeError, match="`when` of `Restarting` must return whether"):
        rx.Restarting(gradient(), lambda state, metrics: None).init_and_train(jr.key(0))


# --- PopulationBased ---


def population(steps: int = 30, **more: Any) -> Any:
    def noisy(params: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(params**2) + 0.001 * jr.normal(key), None

    return rx.PopulationBased(
        gradient(steps, noisy), 8, {"learning_rate": (1e-4, 0.4)}, every=5, **more
    )


def test_a_selection_is_that_of_numpy() -> None:
    """Whom a member becomes a copy of, and what it then explores."""
    trainer = population(record=lambda state: state)
    _, data = trainer.init_and_train(jr.key(0))
    metrics, states = data["metrics"], data["record"]
    source = np.asarray(metrics["source"])
    own = np.arange(8)
    rates = np.asarray(metrics["explored"]["learning_rate"])
    moved = np.asarray(states.values["learning_rate"])
    for i in range(30):
        if (i + 1) % 5:
            assert (source[i] == own).all() and (moved[i] == rates[i]).all()
            continue
        order = np.argsort(np.asarray(metrics["loss"][i]), kind="stable")
        best, worst = set(order[:2]), set(order[-2:])
        assert set(np.flatnonzero(source[i] != own)) == worst
        assert set(source[i][source[i] != own]) <= best
        factor = moved[i] / rates[i][source[i]]
        others = [j for j in own if j not in worst]
        assert np.allclose(factor[others], 1)
        for j in worst:
            clipped = moved[i][j] == pytest.approx(0.4)
            assert np.isclose(factor[j], [0.8, 1.25]).any() or clipped
        for leaf in jax.tree.leaves(jax.tree.map(lambda x, i=i: x[i], states.lanes)):
            for j in worst:
                assert same(leaf[j], leaf[source[i][j]]), "all of it is copied"


def test_a_population_finds_better_numbers() -> None:
    trainer = population(60)
    state, data = trainer.init_and_train(jr.key(0))
    first = np.asarray(data["metrics"]["explored"]["learning_rate"][0])
    last = np.asarray(state.values["learning_rate"])
    assert (first > 1e-4 - 1e-9).all() and (last < 0.4 + 1e-6).all()
    assert np.median(last) > 3 * np.median(first)
    best = int(np.asarray(state.scores).argmin())
    assert same(trainer.params(state), trainer.lane(state, best).params)
    assert trainer.lanes[3] == "member=3"
    divided, _ = population(60, n_devices=2).init_and_train(jr.key(0))
    assert close(divided.scores, state.scores)


def test_a_population_is_evaluated_by_its_best_member(
    tmp_path: pathlib.Path,
) -> None:
    evaluator = rx.Evaluator(_square, every=10)
    trainer = population(20, callbacks=evaluator)
    state, _ = trainer.init_and_train(jr.key(0))
    best = float(jnp.sum(trainer.params(state) ** 2))
    assert evaluator.best_return is not None
    assert evaluator.best_return == pytest.approx(best, rel=1e-4)
    logger = rx.Logger(log_file=tmp_path / "log.jsonl")
    by_default = population(5, callbacks=rx.Evaluator(every=5), logger=logger)
    _, data = by_default.init_and_train(jr.key(0))
    first = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    rates = data["metrics"]["explored"]["learning_rate"]
    assert first["explored.learning_rate"] == pytest.approx(float(rates[0, 0]))


def test_a_member_that_goes_bad_is_replaced() -> None:
    """NaN is the worst score, so that it is the first to go."""

    class Fragile(rx.AbstractTrainer[Any, Any, Any]):
        """Shrinks a number, and loses it where the rate is large."""

        rate: Any
        train_steps: int = 12
        record: Any = None
        callbacks: rx.Callbacks = eqx.field(converter=rx.Callbacks, default=())
        objective = property(lambda self: ("loss", "min"))

        def initialize(self, key: Any, data: Any = None) -> Any:
            return FragileState(jnp.zeros((), jnp.int32), jnp.ones(()))

        def train_step(self, state: Any, key: Any, data: Any = None) -> Any:
            x = state.x * (1 - self.rate)
            x = jnp.where((state.step >= 3) & (self.rate > 0.5), jnp.nan, x)
            return FragileState(state.step, x), {"loss": x**2}

        def params(self, state: Any) -> Any:
            return state.x

    class FragileState(rx.AbstractState):
        step: Any
        x: Any

    trainer = rx.PopulationBased(
        Fragile(jnp.asarray(0.1)), 4, {"rate": (0.01, 0.9)}, every=5
    )
    for seed in range(4):
        state, data = trainer.init_and_train(jr.key(seed))
        assert np.isfinite(float(trainer.params(state)))
        losses, source = (np.asarray(data["metrics"][x]) for x in ("loss", "source"))
        copied = source[4] != np.arange(4)
        assert np.isfinite(losses[4][source[4][copied]]).all()


def test_wrong_populations() -> None:
    make = lambda *given, **more: rx.PopulationBased(gradient(), *given, **more)
    bounds: Any = {"learning_rate": (1e-3, 0.1)}
    with pytest.raises(ValueError, match="`n` of `PopulationBased` must be .* least 2"):
        make(1, bounds)
    names_none: Any = ("learning_rate", (0.1, 1.0)), {3: (0.1, 1.0)}
    for wrong, message in zip(names_none, ("map at least", "by paths"), strict=True):
        with pytest.raises(TypeError, match=f"`explore` .* must .*{message}"):
            make(4, wrong)
    same_name: Any = {lambda t: t.learning_rate: (0.1, 1.0), **bounds}
    same_name[lambda t: t.learning_rate] = (0.1, 1.0)
    with pytest.raises(
        ValueError, match="must name each number once, .*'learning_rate'"
    ):
        make(4, same_name)
    with pytest.raises(TypeError, match="must give two numbers"):
        make(4, {"learning_rate": "ab"})
    for wrong in ({}, [0.1], None):
        with pytest.raises(
            TypeError, match="must map at least one place to its bounds"
        ):
            make(4, wrong)
    for wrong in ((0.1, 0.1), (1.0,), (0.1, jnp.inf)):
        with pytest.raises(ValueError, match=r"must give bounds \(low, high\)"):
            make(4, {"learning_rate": wrong})
    with pytest.raises(ValueError, match="no 'rate'. Closest"):
        make(4, {"rate": (0.1, 1.0)})
    with pytest.raises(ValueError, match="`share` of `PopulationBased` must be"):
        make(4, bounds, share=0.6)
    with pytest.raises(ValueError, match="`factors` of `PopulationBased` must be two"):
        make(4, bounds, factors=(1.0, -1.0))
    rule = rx.EarlyStopping(patience=2)
    with pytest.raises(ValueError, match="must be without stopping rules"):
        rx.PopulationBased(gradient(callbacks=rule), 4, bounds)
    with pytest.raises(ValueError, match="must divide the number of lanes"):
        make(5, bounds, n_devices=2)
