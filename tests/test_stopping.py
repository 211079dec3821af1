"""Early stopping: inside the step, whatever the chunks, lanes and transformations."""

import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx
from realax._trees import with_fields

from .helpers import close, compilations, rastrigin, same


def _trainer(steps: int, *callbacks: Any) -> Any:
    """Of 300 steps wherever it can be: then they share their programs."""
    return rx.EvosaxTrainer(
        steps, "CMA_ES", rastrigin, jnp.ones(3), popsize=16, callbacks=callbacks
    )


def _first(values: Any, condition: Any) -> int:
    return int(np.argmax(condition(np.asarray(values)))) + 1


@pytest.mark.parametrize("every", [None, 1, 7])
def test_a_target_ends_a_run(every: int | None) -> None:
    _, whole = _trainer(300).init_and_train(jr.key(0))
    best = whole["metrics"]["best_fitness"]
    expected = _first(best, lambda x: x <= 1.0)
    assert 5 < expected < 100

    class Watch(rx.AbstractObserver):
        pass

    trainer = _trainer(300, rx.EarlyStopping(target=1.0), Watch(every=every))
    state, data = trainer.init_and_train(jr.key(0))
    assert int(state.step) == int(data["stopped_at"]) == expected
    assert same(data["metrics"]["best_fitness"], best[:expected])
    assert same(trainer.init_and_train_(jr.key(0)), state)
    short = _trainer(expected).init_and_train_(jr.key(0))
    assert same(short, with_fields(state, stopping=()))


def test_patience() -> None:
    _, whole = _trainer(300).init_and_train(jr.key(1))
    best = np.asarray(whole["metrics"]["best_fitness"])
    since, expected = 0, 300
    for i in range(1, 300):
        since = 0 if best[i] < best[i - 1] else since + 1
        if since == 8:
            expected = i + 1
            break
    trainer = _trainer(300, rx.EarlyStopping("best_fitness", patience=8))
    assert int(trainer.init_and_train_(jr.key(1)).step) == expected < 300


def test_a_small_improvement_is_none() -> None:
    trainer = _trainer(300, rx.EarlyStopping(patience=5, min_delta=1e6))
    assert int(trainer.init_and_train_(jr.key(1)).step) == 6


def test_not_stopped() -> None:
    _, data = _trainer(300, rx.EarlyStopping(target=-1.0)).init_and_train(jr.key(0))
    assert int(data["stopped_at"]) == 300
    _, data = _trainer(300).init_and_train(jr.key(0))
    assert data["stopped_at"] is None


def test_under_jit_the_last_row_repeats() -> None:
    trainer = _trainer(300, rx.EarlyStopping(target=1.0))
    state, data = trainer.init_and_train(jr.key(0))
    jitted, record = jax.jit(lambda key: trainer.init_and_train(key))(jr.key(0))
    assert close(jitted, state)
    stop = int(record["stopped_at"])
    assert stop == int(data["stopped_at"])
    rows = record["metrics"]["fitness"]
    assert rows.shape == (300, 16)
    assert close(rows[:stop], data["metrics"]["fitness"])
    assert np.all(rows[stop:] == rows[stop - 1])


def test_each_lane_stops_by_itself() -> None:
    trainer = _trainer(300, rx.EarlyStopping(target=15.0))
    keys = jr.split(jr.key(0), 4)
    states, records = jax.vmap(trainer.init_and_train)(keys)
    stops = records["stopped_at"].tolist()
    assert len(set(stops)) > 1
    for i, key in enumerate(keys):
        single = trainer.init_and_train_(key)
        assert int(single.step) == stops[i]
        assert close(jax.tree.map(lambda x, i=i: x[i], states), single)


def test_targets_in_parallel_compile_once() -> None:
    def run(target: Any) -> Any:
        return _trainer(300, rx.EarlyStopping(target=target)).init_and_train_(jr.key(0))

    steps = jax.vmap(lambda target: run(target).step)(jnp.array([1.0, 30.0]))
    assert steps[0] > steps[1]
    run(2.0)
    with compilations() as names:
        run(3.0)
    assert names == []


def test_maximised_and_by_mode() -> None:
    class Hill(rx.AbstractTask[Any]):
        """A hill of height 45 that a run climbs from 35."""

        maximize: bool = eqx.field(static=True, default=True)

        def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
            return 45 - 10 * jnp.mean(params**2), None

    def steps(stop: Any) -> int:
        trainer = rx.EvosaxTrainer(
            40, "SNES", Hill(), jnp.ones(3), popsize=8, callbacks=stop
        )
        return int(trainer.init_and_train_(jr.key(0)).step)

    assert steps(rx.EarlyStopping(target=40.0)) < 40
    assert steps(rx.EarlyStopping("failed", target=0.0, mode="min")) == 1
    assert steps(rx.EarlyStopping("failed", target=5.0, mode="max")) == 40
    assert steps(rx.EarlyStopping("fitness", target=1.0)) == 1


def test_nan_is_no_improvement() -> None:
    def loss(x: Any, key: Any, data: Any) -> Any:
        return jnp.sum(x) * 0 + data, None

    losses = [5.0, 4.0, jnp.nan, jnp.nan, jnp.nan, 1.0]
    trainer = rx.OptaxTrainer(
        6,
        "sgd",
        lambda key: jnp.ones(1),
        loss,
        callbacks=rx.EarlyStopping(patience=3),
    )
    _, data = trainer.fit_stream(jr.key(0), losses)
    assert int(data["stopped_at"]) == 5


def test_counters_are_in_checkpoints(tmp_path: pathlib.Path) -> None:
    """A run that is cut in the middle of its patience stops where it would have."""

    def make(steps: int, *more: Any) -> Any:
        return _trainer(steps, rx.EarlyStopping(patience=8), *more)

    expected = make(300).init_and_train_(jr.key(1))
    end = int(expected.step)
    make(end - 3, rx.Checkpointer(tmp_path, every=4)).init_and_train_(jr.key(1))
    state = make(300, rx.Checkpointer(tmp_path, every=4)).init_and_train_(jr.key(1))
    assert int(state.step) == end and same(state, expected)
    again = make(300, rx.Checkpointer(tmp_path, every=4))
    assert same(again.init_and_train_(jr.key(1)), expected), "it stays stopped"


def test_a_hypergradient_through_a_stopped_run() -> None:
    def final(rate: Any) -> Any:
        trainer = rx.OptaxTrainer(
            50,
            "sgd",
            lambda key: jnp.ones(2),
            lambda x, key, data: (jnp.sum(x**2), None),
            rate,
            callbacks=rx.EarlyStopping(target=0.5),
        )
        return jnp.sum(trainer.init_and_train_(jr.key(0)).trained ** 2)

    slope = jax.grad(final)(0.1)
    assert np.isclose(slope, (final(0.1001) - final(0.0999)) / 2e-4, rtol=1e-2)


def test_two_halves_stop_where_the_whole_does() -> None:
    """The counters are a part of the state, and a stopped run stays stopped."""

    def make(steps: int) -> Any:
        return _trainer(steps, rx.EarlyStopping(patience=8))

    expected, key = make(300).init_and_train_(jr.key(1)), jr.split(jr.key(1))[1]
    end = int(expected.step)
    half = make(end - 3).init_and_train_(jr.key(1))
    assert int(half.stopping[0].since) > 0
    assert same(make(300).train_(half, key), expected)
    again, data = make(300).train(expected, key)
    assert same(again, expected) and len(data["metrics"]["failed"]) == 0
    lanes = jax.vmap(make(end - 3).init_and_train_)(jr.split(jr.key(1), 2))
    run_keys = jax.vmap(lambda k: jr.split(k)[1])(jr.split(jr.key(1), 2))
    lanes = jax.vmap(make(300).train_)(lanes, run_keys)
    whole = jax.vmap(make(300).init_and_train_)(jr.split(jr.key(1), 2))
    assert same(lanes.step, whole.step)


def test_another_rule_goes_on() -> None:
    key = jr.split(jr.key(0))[1]
    state = _trainer(300, rx.EarlyStopping(target=5.0)).init_and_train_(jr.key(0))
    further = _trainer(300, rx.EarlyStopping(target=1.0)).train_(state, key)
    expected = _trainer(300, rx.EarlyStopping(target=1.0)).init_and_train_(jr.key(0))
    assert int(further.step) == int(expected.step) > int(state.step)
    free = _trainer(3).train_(state, key)
    assert int(free.step) == int(state.step) + 3 and free.stopping == ()


def test_metrics_by_their_path() -> None:
    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(x**2), {"n": {"deep": x[0] * 0 + 3.0}, "m": x[0]}

    def make(metric: str) -> Any:
        stop = rx.EarlyStopping(metric, target=3.0, mode="max")
        return rx.EvosaxTrainer(5, "SNES", task, jnp.ones(2), callbacks=stop)

    assert int(make("eval_data.n.deep").init_and_train_(jr.key(0)).step) == 1
    with pytest.raises(ValueError, match="'eval_data' holds 2: 'eval_data.m', 'eval_d"):
        make("eval_data").init_and_train_(jr.key(0))
    with pytest.raises(ValueError, match="no 'eval_data.k' among the metrics. Closest"):
        make("eval_data.k").init_and_train_(jr.key(0))


def test_a_noisy_task_stops_by_its_mean() -> None:
    """The luckiest individual of the first generation does not end a run."""
    task = rx.GymnaxTask("CartPole-v1", max_steps=200)
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))

    def steps(metric: str | None) -> int:
        stop = rx.EarlyStopping(metric, target=50.0)
        trainer = rx.EvosaxTrainer(30, "SNES", task, policy, callbacks=stop)
        state, data = trainer.init_and_train(jr.key(0))
        if metric is None:
            assert float(data["metrics"]["mean_fitness"][-1]) >= 50
        return int(state.step)

    assert steps("best_fitness") < steps(None) < 30


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": jnp.nan},
        {"target": np.inf},
        {"target": "low"},
        {"patience": True},
        {"patience": 2, "min_delta": -0.1},
        {"patience": 2, "mode": "least"},
        {"pateince": 2},
    ],
)
def test_wrong_rules(wrong: Any) -> None:
    name = next(reversed(wrong))
    with pytest.raises((TypeError, ValueError), match=f"`{name}`") as caught:
        rx.EarlyStopping(**wrong)
    assert "\n" not in str(caught.value)
    rx.EarlyStopping(patience=np.int64(3)), rx.EarlyStopping(patience=3.0)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="needs a `target` to reach, or a `patience`"):
        rx.EarlyStopping("loss")
    with pytest.raises(ValueError, match="`patience` of `EarlyStopping` must be"):
        rx.EarlyStopping(patience=0)
    with pytest.raises(ValueError, match="no 'fitnes' among the metrics.*'fitness'"):
        _trainer(5, rx.EarlyStopping("fitnes", target=1)).init_and_train_(jr.key(0))
    trainer = _trainer(5, rx.EarlyStopping(target=1.0), rx.ProgressBar())
    with pytest.raises(RuntimeError, match=r"\(ProgressBar\)"):
        jax.jit(lambda key: trainer.init_and_train_(key))(jr.key(0))
    assert eqx.tree_equal(rx.EarlyStopping(target=1), rx.EarlyStopping(target=1))
