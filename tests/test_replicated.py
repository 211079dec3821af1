"""Seeds and sweeps side by side: each lane is its own run, whatever the others do."""

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
from realax.training._metrics import SpreadOf

from .helpers import close, compilations, rastrigin, same, wandb_history
from .reach import reach


def _start(key: Any) -> Any:
    return jr.normal(key, (3,))


def _noisy(params: Any, key: Any, data: Any = None) -> Any:
    return jnp.sum(params**2) + 0.01 * jr.normal(key), None


def _elementwise(params: Any, key: Any, data: Any = None) -> Any:
    """Without a sum, whose order may differ between programs."""
    return params**2 + 0.01 * jr.normal(key), None


def _square(params: Any, key: Any, data: Any = None) -> Any:
    return jnp.sum(params**2), None


def _single(key: Any) -> Any:
    return jr.normal(key)


def gradient(steps: int = 20, **more: Any) -> Any:
    return rx.OptaxTrainer(steps, "adam", _start, _noisy, 0.1, **more)


def evolution(steps: int = 5, **more: Any) -> Any:
    return rx.EvosaxTrainer(steps, "CMA_ES", rastrigin, jnp.ones(3), popsize=8, **more)


def learner(steps: int = 3, **more: Any) -> Any:
    nets = {
        "actor": lambda key: eqx.nn.MLP(3, 3, 8, 1, key=key),
        "critic": lambda key: eqx.nn.MLP(3, "scalar", 8, 1, key=key),
    }
    task = reach(discrete=True)
    sizes = {"num_envs": 4, "num_steps": 8}
    return rx.PPO(task, train_steps=steps, **nets, **sizes, **more)


def lane_by_itself(trainer: Any, lane: int, key: Any) -> Any:
    """The run of a lane, as the docstring of `Replicated` gives it."""
    single = trainer.lane_trainer(lane)
    seed = int(trainer.seeds[lane])
    init_key, run_key = (jr.fold_in(one, seed) for one in jr.split(key))
    return single.train(single.initialize(init_key), run_key)


def _array_leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def of_lane(tree: Any, lane: int) -> Any:
    return jax.tree.map(lambda x: x[:, lane], tree)


@pytest.mark.usefixtures("optimized")
def test_a_lane_is_its_run_bit_for_bit() -> None:
    single = rx.OptaxTrainer(20, "sgd", _single, _elementwise, 0.1)
    values = jnp.array([0.1, 0.01, 0.3])
    for trainer in (
        rx.Replicated(single, 4, n_devices=2),
        rx.sweep(single, {"learning_rate": values}, seeds=2),
    ):
        state, data = trainer.init_and_train(jr.key(0))
        for lane in range(trainer.n):
            expected, record = lane_by_itself(trainer, lane, jr.key(0))
            assert same(trainer.lane(state, lane), expected)
            assert same(of_lane(data["metrics"], lane), record["metrics"])
        assert np.unique(np.asarray(data["metrics"]["loss"][-1])).size == trainer.n


@pytest.mark.parametrize(
    ("make", "n_devices"),
    [(gradient, 1), (gradient, 2), (evolution, 2), (learner, 1), (learner, 2)],
)
def test_a_lane_is_its_run(make: Any, n_devices: int) -> None:
    trainer = rx.Replicated(make(3), 2, n_devices=n_devices)
    state, data = trainer.init_and_train(jr.key(0))
    for lane in range(2):
        expected, record = lane_by_itself(trainer, lane, jr.key(0))
        assert close(trainer.lane(state, lane), expected)
        assert close(of_lane(data["metrics"], lane), record["metrics"])
        params = trainer.params(state)
        one = make(3).params(expected)
        for leaf, like in zip(*map(_array_leaves, (params, one)), strict=True):
            assert leaf.shape == (2, *like.shape)


def test_more_lanes_leave_the_first_ones() -> None:
    _, few = rx.Replicated(gradient(5), 2).init_and_train(jr.key(0))
    _, many = rx.Replicated(gradient(5), 5).init_and_train(jr.key(0))
    assert close(few["metrics"]["loss"], many["metrics"]["loss"][:, :2])


class Poisoned(rx.AbstractTask[Any]):
    """A loss that is NaN from some step on, in the lanes where `at` is not negative."""

    at: Any
    maximize: bool = False

    def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
        value = jnp.sum(params**2) + 0.01 * jr.normal(key)
        return jnp.where(self.at >= 0, jnp.nan, value), None


@pytest.mark.parametrize("kind", ["gradient", "evolution"])
def test_one_lane_of_twenty_goes_bad(kind: str) -> None:
    task = Poisoned(jnp.asarray(-1.0))
    single: Any = rx.OptaxTrainer(10, "adam", _start, task, 0.1)
    place = "loss_fn.at"
    if kind == "evolution":
        single = rx.EvosaxTrainer(10, "SNES", task, jnp.ones(3), popsize=4)
        place = "task.at"
    healthy = -jnp.ones(20)
    poisoned = healthy.at[7].set(1.0)
    runs = [
        rx.sweep(single, {place: values}, seeds=1).init_and_train(jr.key(0))
        for values in (healthy, poisoned)
    ]
    (well, well_data), (sick, sick_data) = runs
    others = [lane for lane in range(20) if lane != 7]
    pick = jax.jit(lambda tree: jax.tree.map(lambda x: x[jnp.array(others)], tree))
    assert same(*map(pick, map(_array_leaves, (well.lanes, sick.lanes))))
    name = single.objective[0]
    curves = [np.asarray(one["metrics"][name]) for one in (well_data, sick_data)]
    assert np.isfinite(curves[0]).all()
    assert (curves[0][:, others] == curves[1][:, others]).all()
    if kind == "evolution":
        assert (np.asarray(sick_data["metrics"]["failed"])[:, 7] == 4).all()
        assert (np.asarray(sick_data["metrics"]["failed"])[:, others] == 0).all()
    else:
        assert not np.isfinite(curves[1][:, 7]).any()
    trainer = rx.sweep(single, {place: poisoned})
    assert trainer.best(sick, sick_data).lane != 7


def _swept(steps: int = 20, **more: Any) -> Any:
    values = {"learning_rate": [0.1, 0.01, 0.001]}
    return rx.sweep(gradient(steps), values, seeds=2, **more)


def test_each_lane_stops_by_its_own_metrics() -> None:
    rule = rx.EarlyStopping(target=1.0)
    free, record = _swept().init_and_train(jr.key(0))
    for trainer in (
        _swept(callbacks=rule),
        rx.sweep(
            gradient(callbacks=rule),
            {"learning_rate": [0.1, 0.01, 0.001]},
            seeds=2,
        ),
    ):
        state, data = trainer.init_and_train(jr.key(0))
        curves = np.asarray(record["metrics"]["loss"])
        for lane in range(6):
            reached = np.flatnonzero(curves[:, lane] <= 1.0)
            end = int(reached[0]) + 1 if len(reached) else 20
            assert int(state.steps[lane]) == end
            found = np.asarray(data["metrics"]["loss"])[:, lane]
            assert close(found[:end], curves[:end, lane])
            assert (found[end:] == found[end - 1]).all(), "the last row is repeated"
        assert int(data["stopped_at"]) == int(state.step) == max(state.steps)
    assert {int(one) for one in free.steps} == {20}
    early = _swept(callbacks=rx.EarlyStopping(target=100.0))
    state, data = early.init_and_train(jr.key(0))
    assert int(data["stopped_at"]) == 1, "the run ends when all lanes have"


def test_ended_lanes_go_on_by_another_rule() -> None:
    """Each with its own steps, keys and rows, as the run of the lane alone."""
    rules = [rx.EarlyStopping(target=target) for target in (1.0, 0.05)]
    first, then = (rx.Replicated(gradient(30, callbacks=one), 3) for one in rules)
    init_key, run_key = jr.split(jr.key(0))
    middle, _ = first.train(first.initialize(init_key), run_key)
    state, data = then.train(middle, run_key)
    assert len({int(one) for one in middle.steps}) > 1
    for lane in range(3):
        singles = [one.lane_trainer(lane) for one in (first, then)]
        keys = [jr.fold_in(key, lane) for key in (init_key, run_key)]
        half, _ = singles[0].train(singles[0].initialize(keys[0]), keys[1])
        assert close(first.lane(middle, lane), dataclasses.replace(half, stopping=()))
        end, record = singles[1].train(half, keys[1])
        assert int(state.steps[lane]) == int(end.step)
        assert close(then.lane(state, lane), dataclasses.replace(end, stopping=()))
        made = int(end.step) - int(half.step)
        found = np.asarray(data["metrics"]["loss"])[:, lane]
        assert close(found[:made], record["metrics"]["loss"][:made])
        assert (found[made:] == found[made - 1]).all()


def test_a_killed_run_may_go_on_by_another_rule(tmp_path: pathlib.Path) -> None:
    """As that of every trainer: rules are no part of what a checkpoint compares."""

    def run(steps: int, target: float) -> Any:
        callbacks = rx.EarlyStopping(target=target), rx.Checkpointer(tmp_path, every=4)
        trainer = rx.Replicated(gradient(steps), 3, callbacks=callbacks)
        return trainer.init_and_train(jr.key(0))

    middle, _ = run(8, 1.0)
    state, _ = run(20, 0.05)
    assert int(state.step) > 8 and (state.steps > middle.steps).all()


def test_a_lane_that_was_over_has_no_rows(tmp_path: pathlib.Path) -> None:
    """It is neither the best nor a part of means, spreads and logs."""
    rule = rx.EarlyStopping(target=1.0)
    trainer = rx.Replicated(gradient(20, callbacks=rule), 3)
    middle, _ = dataclasses.replace(trainer, train_steps=8).init_and_train(jr.key(0))
    over = np.asarray(middle.steps) < 8
    assert over.any() and not over.all()
    log = tmp_path / "log.jsonl"
    callbacks = rule, rx.Logger(log_file=log)
    logged = rx.Replicated(gradient(20), 3, callbacks=callbacks)
    state, data = logged.train(middle, jr.split(jr.key(0))[1])
    losses = np.asarray(data["metrics"]["loss"])
    assert np.isnan(losses[:, over]).all() and np.isfinite(losses[:, ~over]).all()
    assert not over[trainer.best(state, data).lane]
    assert {line["lane"] for line in _lines(log)} == set(np.flatnonzero(~over).tolist())


def test_an_evaluator_s_own_task() -> None:
    evaluator = rx.Evaluator(_square, every=5)
    trainer = rx.Replicated(gradient(5), 4, callbacks=evaluator)
    state, _ = trainer.init_and_train(jr.key(0))
    expected = np.mean(np.sum(np.asarray(trainer.params(state)) ** 2, axis=-1))
    assert evaluator.best_return == pytest.approx(float(expected), rel=1e-5)


def _lines(path: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_log_has_a_curve_for_each_lane(tmp_path: pathlib.Path) -> None:
    from tensorboardX import SummaryWriter  # noqa: F401 # its files are read below

    rule = rx.EarlyStopping(target=1.0)
    log, board = tmp_path / "log.jsonl", tmp_path / "board"
    logger = rx.Logger(log_file=log, log_dir=board)
    trainer = _swept(callbacks=(rule, rx.Evaluator(every=5)), logger=logger)
    state, data = trainer.init_and_train(jr.key(0))
    lines = _lines(log)
    curves = np.asarray(data["metrics"]["loss"])
    for lane in range(6):
        own = [line for line in lines if line["lane"] == lane]
        end = int(state.steps[lane])
        assert [line["step"] for line in own] == [*range(1, end + 1)]
        assert np.allclose([line["loss"] for line in own], curves[:end, lane])
    evaluated = {
        (line["step"], line["lane"]): line["eval_return"]
        for line in lines
        if "eval_return" in line
    }
    assert {step for step, _ in evaluated} <= {5, 10, 15, 20}
    last = max(step for step, _ in evaluated)
    going = [lane for step, lane in evaluated if step == last]
    assert going
    for lane in going:  # the noise has the deviation 0.01
        params = np.asarray(trainer.params(state)[lane])
        if int(state.steps[lane]) == last:
            expected = float(np.sum(params**2))
            assert evaluated[last, lane] == pytest.approx(expected, abs=0.05)
    assert len({evaluated[last, lane] for lane in going}) == len(going)
    folders = {path.name for path in board.iterdir() if path.is_dir()}
    assert folders == set(trainer.lanes)
    assert "learning_rate=0.01 seed=1" in folders
    assert all(list((board / name).glob("events*")) for name in folders)


def test_a_log_goes_on_after_a_checkpoint(tmp_path: pathlib.Path) -> None:
    def run(steps: int, folder: str) -> Any:
        saver = rx.Checkpointer(tmp_path / folder, every=4)
        logger = rx.Logger(log_file=tmp_path / f"{folder}.jsonl")
        rule = rx.EarlyStopping(target=1.0)
        trainer = _swept(steps, callbacks=(saver, rule), logger=logger)
        return trainer.init_and_train(jr.key(0))

    whole, _ = run(20, "whole")
    run(8, "parts")
    parts, _ = run(20, "parts")
    assert same(parts, whole)
    assert _lines(tmp_path / "parts.jsonl") == _lines(tmp_path / "whole.jsonl")


def test_rows_of_the_user_are_those_of_a_lane(tmp_path: pathlib.Path) -> None:
    def run(trainer: Any, path: pathlib.Path) -> list[dict[str, Any]]:
        logger = rx.Logger(metrics_fn=rx.default_grad_metrics, log_file=path)
        trainer(logger).init_and_train(jr.key(0))
        return _lines(path)

    lanes = run(lambda logger: _swept(3, logger=logger), tmp_path / "lanes")
    assert len(lanes) == 3 * 6
    assert {*lanes[0]} == {"step", "lane", "loss", "best_loss", "grad_norm", "skipped"}


def test_rows_that_are_changed(tmp_path: pathlib.Path) -> None:
    """A number for all lanes, a transform that forgets the lane, and one lane."""
    log, board = tmp_path / "log.jsonl", tmp_path / "board"

    def row(state: Any, metrics: Any) -> Any:
        return {"loss": metrics["loss"], "rate": 0.5}, None, state.step

    def only_loss(row: Any) -> Any:
        return {"loss": row["loss"] + row["rate"] - 0.5}

    for n in (2, 1):
        logger = rx.Logger(
            metrics_fn=row, log_file=log, log_dir=board, host_log_transform=only_loss
        )
        trainer = rx.Replicated(gradient(3), n, logger=logger)
        _, data = trainer.init_and_train(jr.key(0))
        lines = _lines(log)
        assert [line["lane"] for line in lines] == [*range(n)] * 3
        losses = np.asarray(data["metrics"]["loss"]).ravel()
        assert np.allclose([line["loss"] for line in lines], losses, atol=1e-6)

    def lane(state: Any, metrics: Any) -> Any:
        return {"lane": metrics["loss"]}, None, state.step

    wrong = rx.Replicated(gradient(3), 2, logger=rx.Logger(metrics_fn=lane))
    with pytest.raises(TypeError, match="none named .* or 'lane'"):
        wrong.init_and_train(jr.key(0))


def test_names_of_lanes_differ() -> None:
    task = rx.MultiTask({"noisy": _noisy, "again": _noisy})
    single = rx.OptaxTrainer(3, "adam", _start, task, 0.1)
    vectors = rx.sweep(single, {"loss_fn.weights": [[1.0, 0.0], [0.0, 1.0]]})
    close_ones = rx.sweep(single, {"learning_rate": [0.1, 0.100001]})
    for trainer in (vectors, close_ones):
        assert len(set(trainer.lanes)) == 2
    _, data = vectors.init_and_train(jr.key(0))
    assert data["metrics"]["loss"].shape == (3, 2)


def test_wandb_has_a_curve_for_each_lane(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = rx.Logger(wandb_log=True)
    logger.init(project="lanes", mode="offline", dir=str(tmp_path))
    _, data = _swept(3, logger=logger).init_and_train(jr.key(0))
    logger.finish()
    wandb.teardown()  # else processes of other tests would use its service
    rows = wandb_history(tmp_path)
    assert [row["_step"] for row in rows] == [1, 2, 3]
    found = [row["loss/learning_rate=0.01 seed=1"] for row in rows]
    assert np.allclose(found, data["metrics"]["loss"][:, 3])
    assert len([name for name in rows[0] if name.startswith("loss/")]) == 6


def test_the_bar_shows_the_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = list[str]()
    bar = rx.ProgressBar(every=10)
    trainer = _swept(10, callbacks=bar)

    def keep(self: Any, values: Any, **_: Any) -> None:
        shown.append(values["loss"])

    monkeypatch.setattr("tqdm.std.tqdm.set_postfix", keep)
    _, data = trainer.init_and_train(jr.key(0))
    last = np.asarray(data["metrics"]["loss"][-1])
    expected = [last.min(), np.median(last), last.max()]
    assert shown[-1] == " ".join(f"{value:.4g}" for value in expected)


def test_the_spread_of_infinite_values() -> None:
    values = jnp.array([jnp.inf, 1.0, jnp.nan, 3.0])
    found = SpreadOf("loss")(None, {"loss": values})
    assert found.tolist() == [1.0, 3.0, jnp.inf]


def test_the_table_and_the_best_lane() -> None:
    import pandas  # which gymnax brings

    trainer = _swept()
    state, data = trainer.init_and_train(jr.key(0))
    table = trainer.table(data)
    curves = np.asarray(data["metrics"]["loss"])
    assert [row.seed for row in table] == [0, 1] * 3
    rates = np.float32([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert np.allclose([row.values["learning_rate"] for row in table], rates)
    assert np.allclose([row.final for row in table], curves[-1])
    assert np.allclose([row.best for row in table], curves.min(0))
    lines = str(table).splitlines()
    assert lines[0].split() == [
        *["lane", "learning_rate", "seed", "final", "loss", "best", "loss"]
    ]
    assert len(lines) == 7 and len({len(line) for line in lines}) == 1
    columns = table.columns
    assert {len(column) for column in columns.values()} == {6}
    assert pandas.DataFrame(columns).shape == (6, 5)
    best = trainer.best(state, data)
    assert best.lane == int(curves.min(0).argmin())
    assert float(best.trainer.learning_rate) == pytest.approx(rates[best.lane])
    assert same(best.params, trainer.lane(state, best.lane).best_params)
    # Its trainer is one by itself.
    again, _ = lane_by_itself(trainer, best.lane, jr.key(0))
    assert close(again, trainer.lane(state, best.lane))


def test_what_the_trainer_records() -> None:
    single = gradient(4, record=lambda state: state.params)
    _, data = rx.Replicated(single, 3).init_and_train(jr.key(0))
    assert data["record"].shape == (4, 3, 3)
    own = rx.Replicated(single, 3, record=lambda state: state.steps)
    _, data = own.init_and_train(jr.key(0))
    assert data["record"].tolist() == [[i] * 3 for i in (1, 2, 3, 4)]


def test_products_and_pairs() -> None:
    single = rx.EvosaxTrainer(2, "SNES", rastrigin, jnp.ones(3), popsize=4)

    def std(trainer: Any) -> Any:
        return trainer.es_params.std_init

    values: Any = {std: [0.1, 0.2], "fitness_shaper.w_decay": [0.0, 1.0]}
    both = rx.sweep(single, values, seeds=2)
    assert both.n == 8
    assert np.allclose(both.values["std"], np.repeat(np.float32([0.1, 0.2]), 4))
    decay = both.values["fitness_shaper.w_decay"]
    assert np.allclose(decay, [0, 0, 1, 1, 0, 0, 1, 1])
    pairs = rx.sweep(single, values, how="zip")
    assert pairs.lanes == (
        "std=0.1 fitness_shaper.w_decay=0",
        "std=0.2 fitness_shaper.w_decay=1",
    )
    with pytest.raises(ValueError, match='equal lengths with `how="zip"`'):
        rx.sweep(single, {std: [0.1], "fitness_shaper.w_decay": [0, 1]}, how="zip")


def test_a_sweep_compiles_once() -> None:
    with compilations() as names:
        trainer = rx.sweep(gradient(), {"learning_rate": jnp.logspace(-4, -1, 8)})
        trainer.init_and_train(jr.key(0))
    assert names.count("jit(bare_run)") == 1
    with compilations() as names:
        trainer = rx.sweep(gradient(), {"learning_rate": jnp.logspace(-3, 0, 8)})
        trainer.init_and_train(jr.key(1))
    assert names == [], "other values and seeds share the program"


def test_it_nests_and_maps() -> None:
    inner = rx.Replicated(gradient(5), 2)
    outer = rx.Replicated(inner, 3)
    state, data = outer.init_and_train(jr.key(0))
    assert data["metrics"]["loss"].shape == (5, 3, 2)
    assert outer.params(state).shape == (3, 2, 3)
    losses = lambda key: inner.init_and_train(key)[1]["metrics"]["loss"]
    keys = jr.split(jr.key(0), 2)
    mapped = jax.vmap(losses)(keys)
    assert close(mapped[1], losses(keys[1]))
    assert close(jax.jit(losses)(keys[0]), losses(keys[0]))


PLACES: list[tuple[Any, type, str]] = [
    (
        {"learning_rat": [1.0]},
        ValueError,
        "no 'learning_rat'. Closest: 'learning_rate'",
    ),
    ({"optimizer": [1.0]}, ValueError, "'adam' of type str, which is static"),
    ({"train_steps": [1]}, ValueError, "20 of type int, which is static"),
    ({"record": [1.0]}, ValueError, "'record' of `OptaxTrainer` is None"),
    ({"learning_rate": [[1.0]]}, ValueError, "each of the shape \\(\\), but got"),
    ({"learning_rate": []}, ValueError, "a leading axis of values"),
    ({"learning_rate": 0.1}, ValueError, "a leading axis of values"),
    ({"learning_rate": [1e40]}, ValueError, "must be finite in float32"),
    (
        {lambda t: t.learning_rate * 2: [1.0]},
        ValueError,
        "cannot differ .* computed from other numbers",
    ),
    ({"learning_rate": [jnp.nan]}, ValueError, "must be finite"),
    ({"learning_rate": ["a"]}, TypeError, "must be numbers"),
    ({3: [1.0]}, TypeError, "must name numbers by paths"),
    ({}, TypeError, "must map at least one place to its values"),
    ([0.1], TypeError, "must map at least one place to its values"),
]


@pytest.mark.parametrize(("values", "error", "message"), PLACES)
def test_wrong_places(values: Any, error: type[Exception], message: str) -> None:
    with compilations() as names:
        with pytest.raises(error, match=message):
            rx.sweep(gradient(), values)
    assert "jit(bare_run)" not in names


def test_changes_by_replace() -> None:
    rule = rx.EarlyStopping(target=100.0)
    trainer = rx.Replicated(gradient(5), 2, callbacks=rule)
    assert int(trainer.init_and_train_(jr.key(0)).step) == 1
    free = dataclasses.replace(trainer, callbacks=())
    assert int(free.init_and_train_(jr.key(0)).step) == 5
    with pytest.raises(ValueError, match="must be the number of `seeds`.* got 4"):
        dataclasses.replace(trainer, n=4)
    with pytest.raises(ValueError, match="only one level of lanes can end"):
        rx.Replicated(rx.Replicated(gradient(5), 2), 2, callbacks=rule)


def test_wrong_lanes() -> None:
    for n in (0, -1):
        with pytest.raises(ValueError, match="`n` of `Replicated` must be .* at least"):
            rx.Replicated(gradient(), n)
    with pytest.raises(ValueError, match="must divide the number of lanes, 5.*4 or 6"):
        rx.Replicated(gradient(), 5, n_devices=2)
    both = rx.Restarting(evolution(n_devices=2), rx.EarlyStopping(patience=2))
    with pytest.raises(ValueError, match="cannot both be more than 1, but got 2 and 2"):
        rx.Replicated(both, 4, n_devices=2)
    with pytest.raises(TypeError, match="`trainer` of `Replicated` must be"):
        rx.Replicated("PPO", 2)  # pyright: ignore
    with pytest.raises(ValueError, match="must be without observers.*ProgressBar"):
        rx.Replicated(gradient(progress_bar=True), 2)
    trainer = rx.Replicated(gradient(5), 2)
    state, data = trainer.init_and_train(jr.key(0))
    for lane in (-1, 2):
        with pytest.raises(IndexError, match="`lane` must be from 0 to 1"):
            trainer.lane(state, lane)
    assert same(trainer.lane(state, np.int64(1)), trainer.lane(state, 1))
    wrong: Any = 0.5
    with pytest.raises(TypeError, match="`lane` of .* the number of a lane, .* 0.5"):
        trainer.lane(state, wrong)
    with pytest.raises(TypeError, match="must be a state of all lanes, .* GradState"):
        trainer.best(trainer.lane(state, 0), data)  # pyright: ignore
    with pytest.raises(TypeError, match="`data` of .* the record of a run, .* None"):
        trainer.table(None)  # pyright: ignore
    with pytest.raises(ValueError, match=r"of these 3 lanes, .* of shape \(5, 2\)"):
        rx.Replicated(gradient(3), 3).table(data)
    with pytest.raises(ValueError, match="at least one step"):
        trainer.table({**data, "metrics": {"loss": jnp.zeros((0, 2))}})
    nothing = {**data, "metrics": {"loss": jnp.full((5, 2), jnp.nan)}}
    with pytest.raises(ValueError, match="no lane ever had a finite 'loss'"):
        trainer.best(state, nothing)


def test_a_value_is_put_where_it_belongs() -> None:
    """A number inside of a dictionary of options, and an integer."""
    options = {"b1": 0.9}
    single = rx.OptaxTrainer(5, "adam", _start, _noisy, 0.1, opt_kws=options)
    trainer = rx.sweep(single, {"opt_kws.b1": [0.0, 0.9]})
    _, data = trainer.init_and_train(jr.key(0))
    for lane, b1 in enumerate((0.0, 0.9)):
        alone = rx.OptaxTrainer(5, "adam", _start, _noisy, 0.1, opt_kws={"b1": b1})
        init_key, run_key = (jr.fold_in(key, 0) for key in jr.split(jr.key(0)))
        _, record = alone.train(alone.initialize(init_key), run_key)
        assert close(data["metrics"]["loss"][:, lane], record["metrics"]["loss"])
