"""The laws that every trainer obeys, over the table in `trainers.py`."""

import dataclasses
import functools
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


@every
def test_two_halves_are_the_whole(row: Row) -> None:
    whole, half = row.make(STEPS), row.make(STEPS // 2)
    state = whole.initialize(jr.key(1))
    expected, record = whole.train(state, jr.key(2))
    middle, first = half.train(state, jr.key(2))
    final, second = half.train(middle, jr.key(2))
    assert int(final.step) == STEPS
    assert same(final, expected)
    joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
    assert same(joined, record)


@every
def test_constant_memory_is_the_same(row: Row) -> None:
    trainer = row.make(STEPS)
    state, record = trainer.init_and_train(jr.key(1))
    assert same(trainer.init_and_train_(jr.key(1)), state)
    assert same(trainer(jr.key(1)), (state, record))
    assert all(leaf.shape[0] == STEPS for leaf in jax.tree.leaves(record))


@every
@pytest.mark.parametrize("period", [1, 7, 1000])
def test_observed_is_bare(row: Row, period: int) -> None:
    bare = row.make(STEPS).init_and_train(jr.key(1))
    watch = Watch(every=period)
    trainer = row.make(STEPS, callbacks=watch)
    assert same(trainer.init_and_train(jr.key(1)), bare)
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
    assert same(trainer.init_and_train_(jr.key(1)), bare[0])


@every
def test_seeds_in_parallel(row: Row) -> None:
    trainer, keys = row.make(FIRST), jr.split(jr.key(3), 3)
    states, records = jax.vmap(trainer.init_and_train)(keys)
    for i, key in enumerate(keys):
        single = trainer.init_and_train(key)
        assert close(jax.tree.map(lambda x, i=i: x[i], (states, records)), single)
    params = eqx.filter(eqx.filter_vmap(trainer.params)(states), eqx.is_array)
    assert all(x.shape[0] == 3 for x in jax.tree.leaves(params))


@every
def test_hyperparameters_in_parallel(row: Row) -> None:
    trainer = row.make(FIRST)
    values = jnp.asarray(row.values)

    def run(value: Any) -> Any:
        return eqx.tree_at(row.leaf, trainer, value).init_and_train(jr.key(1))

    states, records = jax.vmap(run)(values)
    for i, value in enumerate(values):
        assert close(jax.tree.map(lambda x, i=i: x[i], (states, records)), run(value))
    first, second = (jax.tree.map(lambda x, i=i: x[i], states) for i in range(2))
    assert not close(first, second), "the hyperparameter has no effect"


@every
def test_under_jit(row: Row) -> None:
    trainer = row.make(FIRST)
    run = jax.jit(lambda key: trainer.init_and_train(key))
    assert close(run(jr.key(1)), trainer.init_and_train(jr.key(1)))


def _demanding(params: Any, key: Any, data: Any = None) -> Any:
    return Demanding()(params, key, data)


_demanding.compiler_options = {"no_such_option": True}  # pyright: ignore[reportFunctionMemberAccess]


def _on(row: Row, task: Any, **kws: Any) -> Any:
    return eqx.tree_at(row.task, row.make(2, **kws), as_task(task))


@pytest.mark.parametrize(
    "row", [row for row in TRAINERS if row.options], ids=lambda row: row.name
)
def test_the_task_has_options_for_the_compiler(row: Row) -> None:
    for kws in {}, {"callbacks": Watch()}:
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
def test_compiles_once(row: Row) -> None:
    # Other step counts than elsewhere, so that no other test has compiled these.
    with compilations() as names:
        trainer = row.make(11)
        state, _ = trainer.init_and_train(jr.key(1))
    assert names.count("jit(bare_run)") == 1
    with compilations() as names:
        trainer.train(state, jr.key(2))
    assert names == [], "the state changed its type in the first run"
    with compilations() as names:
        row.make(11).init_and_train(jr.key(5))
    assert names == [], "an equal trainer is compiled again"


@every
def test_observed_compiles_once(row: Row) -> None:
    with compilations() as names:
        row.make(13, callbacks=Watch(every=5)).init_and_train(jr.key(1))
    assert names.count("jit(chunk)") <= 1
    with compilations() as names:
        row.make(17, callbacks=Watch(every=3)).init_and_train(jr.key(2))
    assert names == [], "a fresh observer or another length compiles the run again"


@every
def test_what_a_state_is(row: Row) -> None:
    trainer = row.make(STEPS)
    state, record = trainer.init_and_train(jr.key(1))
    assert state.step.shape == () and int(state.step) == STEPS
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    metric, direction = trainer.objective
    assert record["metrics"][metric].shape == (STEPS,)
    assert direction in ("min", "max")
    params, like = trainer.params(state), row.like(trainer)
    assert jax.tree.structure(params) == jax.tree.structure(like)
    for leaf, leaf_like in zip(*map(jax.tree.leaves, (params, like)), strict=True):
        if eqx.is_array(leaf):
            assert (leaf.shape, leaf.dtype) == (leaf_like.shape, leaf_like.dtype)
        else:
            assert leaf is leaf_like


@every
def test_record(row: Row) -> None:
    """Numbers and a whole model are recorded, and the same ones with an observer."""
    best_of = row.make(STEPS).best_params
    record = lambda state: {"twice": 2 * state.step, "best": best_of(state)}
    state, data = row.make(STEPS, record=record).init_and_train(jr.key(1))
    assert data["record"]["twice"].tolist() == [*range(2, 2 * STEPS + 1, 2)]
    best = data["record"]["best"]
    assert jax.tree.structure(best) == jax.tree.structure(best_of(state))
    last = jax.tree.map(lambda x: x[-1] if eqx.is_array(x) else x, best)
    assert same(*(eqx.filter(t, eqx.is_array) for t in (last, best_of(state))))
    watched = row.make(STEPS, record=record, callbacks=Watch())
    _, seen = watched.init_and_train(jr.key(1))
    assert same(*(eqx.filter(t["record"], eqx.is_array) for t in (data, seen)))
    assert row.make(STEPS).init_and_train(jr.key(1))[1]["record"] is None


@every
def test_hypergradient(row: Row) -> None:
    """A run can be differentiated with respect to its hyperparameter."""
    trainer, value = row.make(3), jnp.asarray(row.values[1])

    def outcome(value: Any) -> Any:
        changed = eqx.tree_at(row.leaf, trainer, value)
        _, record = changed.init_and_train(jr.key(1))
        return jnp.mean(record["metrics"][row.curve])

    if not row.differentiable:
        with pytest.raises(TypeError, match="an episode cannot be differentiated"):
            jax.grad(outcome)(value)
        return
    slope = jax.jit(jax.grad(outcome))(value)
    assert jnp.isfinite(slope)
    if row.smooth:
        step = 1e-2
        difference = (outcome(value + step) - outcome(value - step)) / (2 * step)
        assert jnp.isclose(slope, difference, rtol=0.05, atol=0.02)


@every
def test_observers_are_refused_under_a_trace(row: Row) -> None:
    trainer = row.make(5, callbacks=Watch())
    for transform in (jax.jit, jax.vmap):
        keys = jr.key(0) if transform is jax.jit else jr.split(jr.key(0), 2)
        with pytest.raises(RuntimeError, match="outermost trainer"):
            transform(lambda key: trainer.init_and_train_(key))(keys)


@every
def test_replace(row: Row) -> None:
    """`dataclasses.replace` changes one field, and keeps all else."""
    watch = Watch()
    trainer = dataclasses.replace(row.make(3, callbacks=watch), train_steps=STEPS)
    assert trainer.train_steps == STEPS and tuple(trainer.callbacks) == (watch,)
    assert same(
        trainer.init_and_train(jr.key(1)), row.make(STEPS).init_and_train(jr.key(1))
    )
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
        states = jax.vmap(trainer.initialize)(jr.split(jr.key(0), 2))
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
