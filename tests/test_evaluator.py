"""Evaluations between chunks: their numbers, logs, best policy, and resumption."""

import json
import math
import pathlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx

from .helpers import compilations, rastrigin, same
from .trainers import TRAINERS, Row


TASK = rx.GymnaxTask("CartPole-v1", max_steps=30)
POLICY = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))


def _keys(key: Any, step: int, episodes: int) -> Any:
    """The keys of the episodes, as the docstring of `Evaluator` gives them."""
    return jr.split(jr.fold_in(jr.fold_in(key, 2**32 - 1), step), (1, episodes))[0]


def _rows(path: pathlib.Path) -> dict[int, dict[str, Any]]:
    """The lines of a log that hold an evaluation, by their steps."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["step"]: line for line in lines if "eval_return" in line}


def _mean(state: Any) -> Any:
    return eqx.filter(state.mean, eqx.is_array)


def _noisy(params: Any, key: Any, data: Any = None) -> Any:
    return jnp.sum((params - jr.normal(key, params.shape)) ** 2), None


def _straight(params: Any, key: Any, data: Any = None) -> Any:
    """Its gradient is -1: sgd walks at an even pace to the right."""
    return -jnp.sum(params), None


class Near(rx.AbstractTask[Any]):
    """Is best at a point that a walk to the right goes through."""

    point: float = eqx.field(static=True)
    maximize = True

    def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
        return -jnp.sum((params - self.point) ** 2), None


def _walk(steps: int, *callbacks: Any, **kws: Any) -> rx.OptaxTrainer[Any]:
    """After step s its parameter is s / 8."""
    return rx.OptaxTrainer(
        steps,
        "sgd",
        lambda key: jnp.zeros(1),
        _straight,
        1 / 8,
        callbacks=callbacks,
        **kws,
    )


class ClimberState(rx.AbstractState):
    """A point."""

    step: jax.Array
    point: jax.Array


class Climber(rx.AbstractTrainer[Any, Any, Any]):
    """Walks to the right, and names no task unless it is told one."""

    train_steps: int
    scored_by: Any = None
    record: Callable[[Any], Any] | None = None
    callbacks: rx.Callbacks = eqx.field(converter=rx.Callbacks, default=())

    @property
    def objective(self) -> Any:
        return "x", "max"

    @property
    def evaluation_task(self) -> Any:
        return self.scored_by

    def initialize(self, key: Any, data: Any = None) -> Any:
        return ClimberState(jnp.array(0), jnp.zeros(2))

    def train_step(self, state: Any, key: Any, data: Any = None) -> Any:
        after = eqx.tree_at(lambda s: s.point, state, state.point + 1)
        return after, {"x": after.point[0]}

    def params(self, state: Any) -> Any:
        return {"point": state.point, "name": "right"}


def test_evolution_is_scored_on_its_own_task(tmp_path: pathlib.Path) -> None:
    task = rx.GymnaxTask("CartPole-v1", max_steps=30, normalize_obs=True)
    evaluator = rx.Evaluator(every=4, episodes=5)
    trainer = rx.EvosaxTrainer(
        10,
        "SNES",
        task,
        POLICY,
        popsize=6,
        record=_mean,
        callbacks=evaluator,
        logger=rx.Logger(log_file=tmp_path / "log.jsonl"),
    )
    state, data = trainer.init_and_train(jr.key(1))
    rows = _rows(tmp_path / "log.jsonl")
    assert [*rows] == [4, 8]
    run_key = jr.split(jr.key(1))[1]
    play = eqx.filter_jit(lambda p, keys: jax.vmap(lambda k: task(p, k)[0])(keys))
    means = dict[int, float]()
    for step, row in rows.items():
        arrays = jax.tree.map(lambda x, i=step - 1: x[i], data["record"])
        policy = eqx.combine(arrays, trainer.params(state))
        assert isinstance(policy, rx.NormalizedPolicy)
        returns = np.asarray(play(policy, _keys(run_key, step, 5)))
        means[step] = returns.mean()
        assert row["eval_return"] == pytest.approx(returns.mean())
        assert row["eval_return_min"] == returns.min()
        assert row["eval_return_max"] == returns.max()
    assert evaluator.best_return == pytest.approx(max(means.values()))
    assert means[evaluator.best_step] == max(means.values())
    again = play(evaluator.best_params, _keys(run_key, evaluator.best_step, 5))
    assert evaluator.best_return == pytest.approx(float(again.mean()))


def test_gradient_training_is_scored_on_its_loss(tmp_path: pathlib.Path) -> None:
    """A loss without noise is evaluated once, with the data of the run."""

    def loss(params: Any, key: Any, data: Any) -> Any:
        return jnp.mean((params - data) ** 2), None

    evaluator = rx.Evaluator(every=3)
    logger = rx.Logger(log_file=tmp_path / "log.jsonl")
    trainer = rx.OptaxTrainer(
        10, "sgd", _zeros, loss, 0.1, callbacks=evaluator, logger=logger
    )
    _, data = trainer.init_and_train(jr.key(0), jnp.arange(3.0))
    rows = _rows(tmp_path / "log.jsonl")
    assert [*rows] == [3, 6, 9]
    for step, row in rows.items():
        # The loss of a step is that of the parameters before its update.
        assert row["eval_return"] == float(data["metrics"]["loss"][step])
        assert row["eval_return_min"] == row["eval_return_max"] == row["eval_return"]
    assert evaluator.best_step == 9, "a loss is minimised"
    assert evaluator.best_return == rows[9]["eval_return"]


def _zeros(key: Any) -> Any:
    return jnp.zeros(3)


def _on_batch(params: Any, key: Any, data: Any) -> Any:
    return jnp.mean((params - data) ** 2), None


def test_batches_are_drawn_by_the_keys(tmp_path: pathlib.Path) -> None:
    minibatch = rx.Minibatch(_on_batch, 2)
    trainer = rx.OptaxTrainer(
        4,
        "sgd",
        _zeros,
        minibatch,
        0.1,
        callbacks=rx.Evaluator(every=4, episodes=6),
        logger=rx.Logger(log_file=tmp_path / "log.jsonl"),
    )
    examples = jr.normal(jr.key(3), (7, 3))
    state = trainer.init_and_train_(jr.key(0), examples)
    keys = _keys(jr.split(jr.key(0))[1], 4, 6)
    loss = eqx.filter_jit(lambda key: minibatch(state.params, key, examples)[0])
    losses = [loss(key) for key in keys]
    row = _rows(tmp_path / "log.jsonl")[4]
    assert row["eval_return"] == pytest.approx(float(np.mean(losses)), rel=1e-6)
    assert row["eval_return_max"] == pytest.approx(float(max(losses)), rel=1e-6)


def test_a_stream_needs_a_task_of_its_own() -> None:
    def stream(evaluator: rx.Evaluator) -> None:
        trainer = rx.OptaxTrainer(4, "sgd", _zeros, _on_batch, 0.1, callbacks=evaluator)
        trainer.fit_stream(jr.key(0), [np.ones(3, np.float32)] * 4)

    with pytest.raises(ValueError, match="`Evaluator` needs a task .* stream.*Pass"):
        stream(rx.Evaluator(every=2))
    held_out = jnp.zeros(3)
    evaluator = rx.Evaluator(lambda p, key, data: _on_batch(p, key, held_out), every=2)
    stream(evaluator)
    assert evaluator.best_step == 2, "away from what was held out"


def test_a_trainer_of_ones_own() -> None:
    with pytest.raises(ValueError, match=r"`Climber` names none.*`Evaluator\(task\)`"):
        Climber(3, callbacks=rx.Evaluator()).init_and_train(jr.key(0))

    def score(params: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum((params["point"] - 2) ** 2), None

    given = rx.Evaluator(score, every=1)
    Climber(3, callbacks=given).init_and_train(jr.key(0))
    named = rx.Evaluator(every=1)
    Climber(3, score, callbacks=named).init_and_train(jr.key(0))
    for evaluator in (given, named):
        assert evaluator.best_step == 2
        assert evaluator.best_return == 0
        assert evaluator.best_params["name"] == "right"
        assert np.array_equal(evaluator.best_params["point"], [2, 2])


def test_a_trainer_keeps_its_direction() -> None:
    """A fitness shaper that maximises a plain function turns the evaluator too."""

    def best(maximize: bool | None) -> tuple[int, float, list[float]]:
        evaluator, means = rx.Evaluator(every=2), Means()
        trainer = rx.EvosaxTrainer(
            20,
            "SNES",
            rastrigin,
            jnp.ones(2),
            rx.FitnessShaper(maximize=maximize),
            popsize=8,
            callbacks=(evaluator, means),
        )
        trainer.init_and_train(jr.key(0))
        assert means.handle.value is not None
        return evaluator.best_step, evaluator.best_return, means.handle.value

    step, value, means = best(None)
    assert value == min(means) and step == 2 * (means.index(value) + 1)
    step, value, means = best(True)
    assert value == max(means) and step == 2 * (means.index(value) + 1)
    assert min(means) < max(means)


class Means(rx.AbstractObserver):
    """Remembers what was measured, which observers see in `run.measured`."""

    run: rx.Handle[rx.Run] = eqx.field(static=True, default_factory=rx.Handle)
    handle: rx.Handle[list[float]] = eqx.field(static=True, default_factory=rx.Handle)

    def on_start(self, run: rx.Run, state: Any) -> None:
        self.run.value, self.handle.value = run, []

    def on_chunk(self, steps: Any, selected: Any, state: Any) -> None:
        assert self.run.value is not None and self.handle.value is not None
        measured = self.run.value.measured
        self.handle.value += [measured["eval_return"]] if measured else []


# One of each kind; a learner that writes over parts of the state that is evaluated.
KINDS = [row for row in TRAINERS if row.name in ("CMA_ES", "adamw", "DQN")]


@pytest.mark.parametrize("row", KINDS, ids=lambda row: row.name)
def test_it_does_not_change_a_run(row: Row) -> None:
    evaluator = rx.Evaluator(every=3, episodes=2)
    observed = row.make(7, callbacks=evaluator).init_and_train(jr.key(1))
    assert same(observed, row.make(7).init_and_train(jr.key(1)))
    assert evaluator.best_step in (3, 6)


def test_results_do_not_depend_on_chunks(tmp_path: pathlib.Path) -> None:
    def log(name: str, *more: Any) -> dict[int, Any]:
        logger = rx.Logger(log_file=tmp_path / name)
        evaluator = rx.Evaluator(_noisy, every=6, episodes=3)
        _walk(20, evaluator, *more, logger=logger).init_and_train(jr.key(0))
        return _rows(tmp_path / name)

    rows = log("a")
    assert [*rows] == [6, 12, 18]
    assert log("b", rx.ProgressBar(every=1)) == rows


def test_nothing_is_compiled_twice() -> None:
    def run(episodes: int) -> list[str]:
        task = rx.GymnaxTask("CartPole-v1", max_steps=20)
        evaluator = rx.Evaluator(task, every=1, episodes=episodes)
        trainer = rx.EvosaxTrainer(
            3,
            "SNES",
            TASK,
            POLICY,
            popsize=6,
            callbacks=evaluator,
        )
        with compilations() as names:
            trainer.init_and_train(jr.key(1))
        return [name for name in names if "play" in name]

    assert run(2) == ["jit(play)"]
    assert run(2) == []
    assert run(3) == ["jit(play)"]


def test_several_devices() -> None:
    def returns(n_devices: int) -> tuple[float, int]:
        evaluator = rx.Evaluator(_noisy, every=2, episodes=4)
        rx.EvosaxTrainer(
            4,
            "SNES",
            rastrigin,
            jnp.ones(2),
            popsize=4,
            n_devices=n_devices,
            callbacks=evaluator,
        ).init_and_train(jr.key(0))
        return evaluator.best_return, evaluator.best_step

    assert returns(2) == pytest.approx(returns(1))


def test_two_evaluators(tmp_path: pathlib.Path) -> None:
    logger = rx.Logger(log_file=tmp_path / "log.jsonl")
    first = rx.Evaluator(Near(0.5), every=2)
    second = rx.Evaluator(Near(0.9), every=3, name="test_return")
    _walk(8, first, second, logger=logger).init_and_train(jr.key(0))
    assert (first.best_step, second.best_step) == (4, 6)
    lines = [json.loads(x) for x in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "test_return" in line] == [3, 6]
    assert [line["step"] for line in lines if "eval_return" in line] == [2, 4, 6, 8]
    assert lines[5]["test_return"] == pytest.approx(-((0.75 - 0.9) ** 2))
    with pytest.raises(ValueError, match="both return 'eval_return'.*another name"):
        _walk(2, rx.Evaluator(every=2), rx.Evaluator(every=1)).init_and_train(jr.key(0))


class Measuring(rx.AbstractObserver):
    """Measures what it is given."""

    values: rx.Handle[Any] = eqx.field(static=True)

    def measure(self, steps: Any, state: Any) -> Any:
        return self.values.value


def test_what_observers_measure(tmp_path: pathlib.Path) -> None:
    def run(values: Any) -> list[Any]:
        path = tmp_path / "log.jsonl"
        observer, logger = Measuring(rx.Handle(values)), rx.Logger(log_file=path)
        _walk(1, observer, logger=logger).init_and_train(jr.key(0))
        return [json.loads(line) for line in path.read_text().splitlines()]

    numbers = {"a": 1, "b": np.float32(2.5), "c": jnp.array(3), "d": math.nan}
    row = run(numbers)[0]
    assert (row["a"], row["b"], row["c"], row["d"]) == (1, 2.5, 3, None)
    with pytest.raises(TypeError, match="`Measuring.measure` must return numbers by n"):
        run(None)
    with pytest.raises(TypeError, match="must return a number at 'a'.*Reduce it"):
        run({"a": np.ones(2)})
    for name in ("loss", "step"):
        with pytest.raises(ValueError, match=f"measures '{name}'.*another name"):
            run({name: 1.0})


def test_the_transform_of_rows_sees_them(tmp_path: pathlib.Path) -> None:
    logger = rx.Logger(
        log_file=tmp_path / "log.jsonl",
        host_log_transform=lambda row: {"n": len(row), "e": row.get("eval_return")},
    )
    _walk(2, rx.Evaluator(Near(0.0), every=2), logger=logger).init_and_train(jr.key(0))
    assert (tmp_path / "log.jsonl").read_text().splitlines() == [
        '{"step": 1, "n": 4, "e": null}',
        '{"step": 2, "n": 7, "e": -0.0625}',
    ]


def _resumable(folder: pathlib.Path, steps: int, *more: Any) -> rx.Evaluator:
    """A walk through the point 1, after 8 steps."""
    evaluator = rx.Evaluator(Near(1.0), every=4, episodes=2, file=folder / "best")
    noisy = rx.Evaluator(_noisy, every=3, episodes=2, name="noisy_return")
    _walk(
        steps,
        evaluator,
        noisy,
        rx.Checkpointer(folder / "run", every=5),
        *more,
        logger=rx.Logger(log_file=folder / "log.jsonl"),
    ).init_and_train(jr.key(0))
    return evaluator


class Breaks(rx.AbstractObserver):
    """Ends a run before its last chunk is logged, as a killed process does."""

    def measure(self, steps: Any, state: Any) -> Any:
        if steps[-1] == 13:
            raise LookupError
        return {}


def test_a_resumed_run_logs_the_same(tmp_path: pathlib.Path) -> None:
    expected = _resumable(tmp_path / "whole", 20)
    assert (expected.best_step, expected.best_return) == (8, 0)
    with pytest.raises(LookupError):
        _resumable(tmp_path / "parts", 20, Breaks(every=13))
    resumed = _resumable(tmp_path / "parts", 20)
    logs = [tmp_path / name / "log.jsonl" for name in ("whole", "parts")]
    assert logs[0].read_bytes() == logs[1].read_bytes()
    assert [*_rows(logs[1])] == [4, 8, 12, 16, 20]
    assert (resumed.best_step, resumed.best_return) == (8, 0)
    assert same(resumed.best_params, expected.best_params)
    finished = _resumable(tmp_path / "parts", 20)
    assert finished.best_step == 8, "a run without a step to make"


def test_without_a_file_a_resumed_run_begins_anew(tmp_path: pathlib.Path) -> None:
    def best(steps: int) -> int:
        evaluator = rx.Evaluator(Near(1.0), every=4)
        checkpointer = rx.Checkpointer(tmp_path, every=5)
        _walk(steps, evaluator, checkpointer).init_and_train(jr.key(0))
        return evaluator.best_step

    assert best(10) == 8
    assert best(20) == 12


def test_calls_of_train_share_an_evaluator() -> None:
    evaluator = rx.Evaluator(Near(1.0), every=4)
    trainer = _walk(10, evaluator)
    state, _ = trainer.init_and_train(jr.key(0))
    state, _ = trainer.train(state, jr.key(1))
    assert int(state.step) == 20 and evaluator.best_step == 8
    _walk(4, evaluator).init_and_train(jr.key(0))
    assert evaluator.best_step == 4, "a new run begins anew"


def test_the_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "deep" / "best"
    save = {"every": 4, "file": path}
    state = _walk(10, rx.Evaluator(Near(1.0), **save)).init_and_train_(jr.key(0))
    assert np.array_equal(rx.load_params(path, jnp.zeros(1)), [1.0])

    again = rx.Evaluator(Near(1.0), **save)
    _walk(8, again).train(state, jr.key(0))
    assert again.best_step == 8
    with pytest.raises(ValueError, match="another evaluation: .*point.*another file"):
        _walk(8, rx.Evaluator(Near(2.0), **save)).train(state, jr.key(0))
    with pytest.raises(ValueError, match="another evaluation: .*episodes"):
        _walk(8, rx.Evaluator(Near(1.0), episodes=2, **save)).train(state, jr.key(0))

    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.warns(RuntimeWarning, match="altered.*the coming ones"):
        _walk(8, again := rx.Evaluator(Near(1.0), **save)).train(state, jr.key(0))
    assert again.best_step == 12

    # A new run must not leave the old best to be taken up after an interruption.
    _walk(2, rx.Evaluator(Near(1.0), **save)).init_and_train(jr.key(0))
    assert not path.exists()


def test_nan_never_wins() -> None:
    def sqrt(params: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(jnp.sqrt(0.6 - params)), None

    evaluator = rx.Evaluator(sqrt, every=1)
    _walk(10, evaluator).init_and_train(jr.key(0))
    assert evaluator.best_step == 4

    def pole(params: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(jnp.log(jnp.abs(params - 0.5))), None

    evaluator = rx.Evaluator(pole, every=1)
    _walk(10, evaluator).init_and_train(jr.key(0))
    assert evaluator.best_step in (3, 5), "minus infinity at 4"


def test_before_an_evaluation() -> None:
    evaluator = rx.Evaluator(every=4)
    for _ in range(2):
        for name in ("best_params", "best_return", "best_step"):
            with pytest.raises(RuntimeError, match="multiples of 4 steps"):
                getattr(evaluator, name)
        _walk(3, evaluator).init_and_train(jr.key(0))


def test_one_run_at_a_time(tmp_path: pathlib.Path) -> None:
    evaluator = rx.Evaluator(Near(1.0), every=2, file=tmp_path / "best")

    class Nested(rx.AbstractObserver):
        def on_chunk(self, steps: Any, selected: Any, state: Any) -> None:
            with pytest.raises(RuntimeError, match="watches another run"):
                _walk(4, evaluator).init_and_train(jr.key(0))
            other = rx.Evaluator(Near(1.0), file=tmp_path / "best")
            with pytest.raises(RuntimeError, match="belongs to a run .*`file`"):
                _walk(4, other).init_and_train(jr.key(0))

    _walk(4, evaluator, Nested(every=2)).init_and_train(jr.key(0))
    assert evaluator.best_step == 4
    _walk(4, evaluator).init_and_train(jr.key(0))


def test_a_task_that_does_not_fit_is_refused_first() -> None:
    task = rx.GymnaxTask("Acrobot-v1", max_steps=5)
    trainer = rx.EvosaxTrainer(
        4, "SNES", TASK, POLICY, popsize=6, callbacks=rx.Evaluator(task)
    )
    with compilations() as names, pytest.raises((TypeError, ValueError)):
        trainer.init_and_train(jr.key(0))
    assert "jit(chunk)" not in names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "`every` of `Evaluator` must be a whole number of at least 1"),
        ({"every": None}, "`every` of `Evaluator` must be a whole number"),
        ({"episodes": 0}, "`episodes` of `Evaluator` must be a whole number of at l"),
        ({"episodes": 2.5}, "`episodes` of `Evaluator` must be a whole number"),
        ({"task": "CartPole-v1"}, "`task` of `Evaluator` must be a function"),
        ({"task": rx.GymnaxTask}, "`task` must be a task, but got the class"),
        ({"name": 3}, "`name` of `Evaluator` must be a string"),
        ({"file": 3}, "`file` of `Evaluator` must be a path"),
        ({"episode": 3}, "no argument `episode`. Closest: 'episodes'"),
    ],
)
def test_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        rx.Evaluator(**arguments)
