"""The laws that every trainer obeys, over the table in `trainers.py`."""

import dataclasses
import functools
import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx
from realax.tasks import as_task

from .helpers import close, compilations, same
from .trainers import TRAINERS, Demanding, Row


every = pytest.mark.parametrize("row", TRAINERS, ids=lambda row: row.name)
# The same number nearly everywhere, so that one compiled run serves many tests.
STEPS = 20
# Another program may sum in another order, and the last bits of a sum grow from step to
# step. This many are compared between runs in parallel and single ones.
FIRST = 5


def _all(state: Any, metrics: Any) -> Any:
    return {"step": state.step, "metrics": metrics}


class Watch(rx.AbstractObserver):
    """Remembers what it was shown."""

    handle: rx.Handle[list[Any]] = eqx.field(static=True, default_factory=rx.Handle)

    def select(self, run: rx.Run) -> Any:
        return _all

    def on_start(self, run: rx.Run, state: Any) -> None:
        self.handle.value = []

    def on_chunk(self, steps: Any, selected: Any, state: Any) -> None:
        assert self.handle.value is not None
        assert int(state.step) == steps[-1]
        self.handle.value.append((steps, selected))


@pytest.fixture(autouse=True)
def as_users_compile(request: pytest.FixtureRequest) -> None:
    spec: Any = getattr(request.node, "callspec", None)
    row = None if spec is None else spec.params.get("row")
    if isinstance(row, Row) and row.optimized:
        request.getfixturevalue("optimized")


@functools.cache
def _record(row: Row, float64: bool) -> Any:
    del float64  # the trainer holds arrays
    best_of = row.make(STEPS).best_params
    return lambda state: {"best": best_of(state), "state": _arrays(state)}


def make(row: Row, train_steps: int = STEPS, **kws: Any) -> Any:
    """Return a trainer with a record: equal ones share their compiled programs."""
    return row.make(train_steps, record=_record(row, jax.config.jax_enable_x64), **kws)


def _arrays(tree: Any) -> Any:
    return eqx.filter(tree, eqx.is_array)


@every
def test_two_halves_are_the_whole(row: Row, tmp_path: pathlib.Path) -> None:
    """Neither an equal trainer nor a state that was trained compiles again."""
    (_, run_key), other = jr.split(jr.key(1)), jr.key(5)
    middle, first = make(row).init_and_train(jr.key(1))
    with compilations() as names:
        final, second = make(row).train(middle, run_key)
    assert names == [], "the state changed its type in the first run"
    with compilations() as names:
        make(row).init_and_train(other)
    assert names == [], "an equal trainer is compiled again"
    assert int(final.step) == 2 * STEPS
    # In chunks, whose program does not depend on the number of steps.
    watched = Watch(every=1000), rx.Checkpointer(tmp_path, every=1000)
    whole = make(row, 2 * STEPS, callbacks=watched)
    expected, record = whole.init_and_train(jr.key(1))
    assert same(final, expected)
    halves = _arrays(first), _arrays(second)
    joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *halves)
    assert same(joined, _arrays(record))


@pytest.mark.parametrize(
    "row",
    [row for row in TRAINERS if row.name in ("CMA_ES", "adamw", "DQN", "climber")],
    ids=lambda row: row.name,
)
def test_constant_memory_is_the_same(row: Row) -> None:
    trainer = make(row)
    state, record = trainer.init_and_train(jr.key(1))
    assert same(trainer.init_and_train_(jr.key(1)), state)
    assert same(_arrays(trainer(jr.key(1))), _arrays((state, record)))
    assert all(leaf.shape[0] == STEPS for leaf in jax.tree.leaves(_arrays(record)))
    alone = make(row, callbacks=Watch(every=7))
    assert same(alone.init_and_train_(jr.key(1)), state)


@pytest.mark.parametrize(
    ("row", "period"),
    [
        pytest.param(row, period, id=f"{period}-{row.name}")
        for row in TRAINERS
        for period in ((1, 7, 1000) if row.optimized else (7,))
    ],
)
def test_observed_is_bare(row: Row, period: int, tmp_path: pathlib.Path) -> None:
    bare = make(row).init_and_train(jr.key(1))
    watch = Watch(every=period)
    # Beside a checkpointer, so that other tests find its program compiled.
    trainer = make(row, callbacks=(watch, rx.Checkpointer(tmp_path, every=period)))
    assert same(_arrays(trainer.init_and_train(jr.key(1))), _arrays(bare))
    chunks = watch.handle.value
    assert chunks is not None
    assert np.concatenate([steps for steps, _ in chunks]).tolist() == [
        *range(1, STEPS + 1)
    ]
    rows = [selected for _, selected in chunks]
    seen = jax.tree.map(lambda *parts: np.concatenate(parts), *rows)
    assert seen["step"].tolist() == [*range(1, STEPS + 1)]
    assert same(seen["metrics"], bare[1]["metrics"])
    ends = [int(steps[-1]) for steps, _ in chunks]
    assert set(range(period, STEPS + 1, period)) <= set(ends)


@every
def test_a_checkpoint_goes_on_exactly(row: Row, tmp_path: pathlib.Path) -> None:
    expected, record = make(row).init_and_train(jr.key(1))

    def run(steps: int) -> Any:
        saved = Watch(every=3), rx.Checkpointer(tmp_path, every=3)
        return make(row, steps, callbacks=saved).init_and_train(jr.key(1))

    run(STEPS // 2)
    with compilations() as names:
        state, data = run(STEPS)
    assert "jit(chunk)" not in names, "the restored state has another type"
    assert same(state, expected)
    last = jax.tree.map(lambda x: x[STEPS // 2 :], _arrays(record))
    assert same(_arrays(data), last)
    state, data = run(STEPS)
    assert same(state, expected), "a finished run returns at once"
    assert all(len(leaf) == 0 for leaf in jax.tree.leaves(data["metrics"]))


@every
def test_seeds_and_hyperparameters_in_parallel(row: Row) -> None:
    """Each lane is the single run with its key and its value."""
    (a, b), (one, other) = row.values, jr.split(jr.key(3))
    values, keys = jnp.array([a, b, a]), jnp.stack([one, one, other])
    few, many = make(row, FIRST), make(row)

    def run(trainer: Any, value: Any, key: Any) -> Any:
        changed = eqx.tree_at(row.leaf, trainer, value)
        state, data = changed.init_and_train(key)
        return state, _arrays(data)

    lanes = jax.vmap(functools.partial(run, few))
    # Under `jit` the run is one program, and of each kind one is not.
    states, records = (lanes if row.optimized else eqx.filter_jit(lanes))(values, keys)
    found = [jax.tree.map(lambda x, i=i: x[i], records) for i in range(3)]
    for lane, value, key in zip(found, values, keys, strict=True):
        # The record holds the state after each step.
        _, single = run(many, value, key)
        assert close(lane, jax.tree.map(lambda x: x[:FIRST], single))
    assert not close(found[0], found[1]), "the hyperparameter has no effect"
    params = _arrays(eqx.filter_vmap(few.params)(states))
    assert all(x.shape[0] == 3 for x in jax.tree.leaves(params))


def test_under_jit() -> None:
    """Other runs are compiled in `test_hypergradient`, or in parallel under `jit`."""
    row = next(row for row in TRAINERS if row.name == "CartPole")
    trainer = make(row, FIRST)
    _, found = jax.jit(lambda key: _arrays(trainer.init_and_train(key)))(jr.key(1))
    _, expected = make(row).init_and_train(jr.key(1))
    assert close(found, jax.tree.map(lambda x: x[:FIRST], _arrays(expected)))


def _demanding(params: Any, key: Any, data: Any = None) -> Any:
    return Demanding()(params, key, data)


_demanding.compiler_options = {"no_such_option": True}  # pyright: ignore[reportFunctionMemberAccess]


def _on(row: Row, task: Any, **kws: Any) -> Any:
    return eqx.tree_at(row.task, row.make(2, **kws), as_task(task))


@pytest.mark.parametrize(
    "row", [row for row in TRAINERS if row.options], ids=lambda row: row.name
)
def test_the_task_has_options_for_the_compiler(row: Row) -> None:
    for kws in ({}, {"callbacks": Watch()}) if row.optimized else ({},):
        with pytest.raises(ValueError, match="`compiler_opt.*no_such_option"):
            _on(row, row.demanding(), **kws).init_and_train_(jr.key(0))


def test_what_wraps_a_task_has_its_options() -> None:
    task = Demanding()
    row = next(row for row in TRAINERS if row.name == "adamw")
    wrapped = rx.Minibatch(task, 2), functools.partial(task), eqx.filter_jit(task)
    for one in *wrapped, _demanding:
        with pytest.raises(ValueError, match="`compiler_opt.*no_such_option"):
            _on(row, one).init_and_train_(jr.key(0), jnp.ones((4, 2)))


def test_what_is_traced_has_no_options() -> None:
    trainer = rx.OptaxTrainer(2, "sgd", _ones, Demanding())

    def reached(rate: Any) -> Any:
        one = eqx.tree_at(lambda t: t.learning_rate, trainer, rate)
        return jnp.sum(one.init_and_train_(jr.key(0)).params), None

    jax.vmap(trainer.init_and_train_)(jr.split(jr.key(0), 2))
    for way in jax.jit, jax.grad:
        way(lambda rate: reached(rate)[0])(0.1)
    outer = rx.EvosaxTrainer(1, "SNES", lambda rate, *_: reached(rate), jnp.array(0.1))
    outer.init_and_train_(jr.key(0))


@pytest.mark.parametrize(
    "make",
    [
        lambda task: rx.EvosaxTrainer(2, "SNES", task, jnp.ones(2)),
        lambda task: rx.OptaxTrainer(2, "sgd", _ones, task),
        lambda task: rx.Minibatch(task, 2),
    ],
)
def test_wrong_options_for_the_compiler(make: Any) -> None:
    for options in None, (("a", [1]),), (("a", None),):
        with pytest.raises(TypeError, match="`compiler_options` of `Demanding`"):
            make(Demanding(options))
    make(Demanding())  # XLA itself says what it does not take, when it compiles


def _ones(_: Any) -> Any:
    return jnp.ones(2)


@every
def test_observed_compiles_once(row: Row, tmp_path: pathlib.Path) -> None:
    def run(steps: int, every: int) -> None:
        saver = rx.Checkpointer(tmp_path / str(steps), every=every)
        make(row, steps, callbacks=(Watch(every=every), saver)).init_and_train(
            jr.key(1)
        )

    with compilations() as names:
        run(13, 5)
    assert names.count("jit(chunk)") <= 1
    with compilations() as names:
        run(17, 3)
    assert names == [], "a fresh observer or another length compiles the run again"


@every
def test_what_a_state_is(row: Row) -> None:
    trainer = make(row)
    state, record = trainer.init_and_train(jr.key(1))
    assert state.step.shape == () and int(state.step) == STEPS
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    metric, direction = trainer.objective
    lanes = (len(trainer.lanes),) if trainer.lanes else ()
    assert record["metrics"][metric].shape == (STEPS, *lanes)
    assert direction in ("min", "max")
    params, like = trainer.params(state), eqx.filter_eval_shape(row.like, trainer)
    assert jax.tree.structure(params) == jax.tree.structure(like)
    for leaf, leaf_like in zip(*map(jax.tree.leaves, (params, like)), strict=True):
        if eqx.is_array(leaf):
            assert (leaf.shape, leaf.dtype) == (leaf_like.shape, leaf_like.dtype)
        else:
            assert leaf is leaf_like


@every
def test_record(row: Row) -> None:
    """Numbers and a whole model are recorded, here and in all runs above."""
    trainer = make(row)
    state, data = trainer.init_and_train(jr.key(1))
    assert data["record"]["state"].step.tolist() == [*range(1, STEPS + 1)]
    best, expected = data["record"]["best"], trainer.best_params(state)
    assert jax.tree.structure(best) == jax.tree.structure(expected)
    last = jax.tree.map(lambda x: x[-1] if eqx.is_array(x) else x, best)
    assert same(_arrays(last), _arrays(expected))
    _, data = eqx.filter_eval_shape(row.make(FIRST).init_and_train, jr.key(1))
    assert data["record"] is None


@every
def test_hypergradient(row: Row) -> None:
    """A run can be differentiated with respect to its hyperparameter."""
    if row.differentiable is None:
        pytest.skip("not a function with a derivative everywhere")
    value = jnp.asarray(row.values[1])

    def outcome(trainer: Any, value: Any) -> Any:
        changed = eqx.tree_at(row.leaf, trainer, value)
        _, data = changed.init_and_train(jr.key(1))
        return jnp.mean(data["metrics"][row.curve][:FIRST])

    short, usual = functools.partial(outcome, row.make(FIRST)), make(row)
    if not row.differentiable:
        with pytest.raises(TypeError, match="an episode cannot be differentiated"):
            jax.grad(short)(value)
        return
    found, slope = jax.jit(jax.value_and_grad(short))(value)
    assert jnp.isclose(found, outcome(usual, value), rtol=1e-4)
    assert jnp.isfinite(slope)
    if row.smooth:
        step = 1e-2
        ends = outcome(usual, value + step), outcome(usual, value - step)
        difference = (ends[0] - ends[1]) / (2 * step)
        assert jnp.isclose(slope, difference, rtol=0.05, atol=0.02)


@every
def test_observers_are_refused_under_a_trace(row: Row) -> None:
    trainer = row.make(5, callbacks=Watch())
    for transform in (jax.jit, jax.vmap):
        keys = jr.key(0) if transform is jax.jit else jr.split(jr.key(0), 2)
        with pytest.raises(RuntimeError, match="outermost trainer"):
            with compilations() as names:
                transform(lambda key: trainer.init_and_train_(key))(keys)
        assert "jit(initialize)" not in names, "it is refused before it compiles"


@every
def test_replace(row: Row, tmp_path: pathlib.Path) -> None:
    """`dataclasses.replace` changes one field, and keeps all else."""
    # Those of `test_observed_is_bare`, whose program it finds compiled.
    watch, saver = Watch(), rx.Checkpointer(tmp_path)
    trainer = make(row, 3, callbacks=(watch, saver))
    trainer = dataclasses.replace(trainer, train_steps=STEPS)
    assert trainer.train_steps == STEPS and tuple(trainer.callbacks) == (watch, saver)
    bare = make(row).init_and_train(jr.key(1))
    assert same(_arrays(trainer.init_and_train(jr.key(1))), _arrays(bare))
    assert watch.handle.value, "it watched"


@every
def test_wrong_arguments(row: Row) -> None:
    with pytest.raises(TypeError, match="` must be a whole number .* got 'many'"):
        row.make("many")
    with pytest.raises(ValueError, match="` must be .* at least 1, but got 0"):
        row.make(0)
    with pytest.raises(TypeError, match="`callbacks` .* got 'bar' of type str"):
        row.make(5, callbacks=("bar",))
    trainer = row.make(np.int64(5))
    with pytest.raises(ValueError, match=r"jax\.vmap\(trainer\.train\)"):
        state = trainer.initialize(jr.key(0))
        states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
        trainer.train(states, jr.key(0))
    with pytest.raises(TypeError, match=r"jax\.random\.key\(seed\)"):
        trainer.init_and_train(jr.PRNGKey(0))
    for impl in ("rbg", "unsafe_rbg"):
        with pytest.raises(ValueError, match=f"got one of kind '{impl}'.*threefry2x32"):
            trainer.init_and_train(jr.key(0, impl=impl))
    with pytest.raises(ValueError, match=r"jax\.vmap\(trainer\.init_and_train\)"):
        trainer.init_and_train(jr.split(jr.key(0), 2))
    with pytest.raises(TypeError, match="`state` of .* must be a state from `initial"):
        trainer.train("state", jr.key(0))
