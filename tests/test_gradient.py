"""Gradient training: optimisers, the guard, data, and what wrong arguments get."""

import functools
import inspect
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import example, given, settings, strategies as st
from optax import contrib

import realax as rx
from realax.training._derivative import nth, value_and_grad
from realax.training._optimizers import optimizer_names

from .helpers import compilations, rastrigin, same


NAMES = optimizer_names()
FREE = {"adafactor", "lbfgs", "polyak_sgd"}  # find a learning rate by themselves
# Adadelta starts by steps of a millionth; Fromage's are of the parameters' own size.
RATES = {"adadelta": 50.0, "fromage": 0.1, "lars": 10.0, "lamb": 0.1}
PRMS = {"a": jnp.ones(3), "b": jnp.ones((2, 3)), "count": jnp.arange(3), "name": "bowl"}


def bowl(params: Any, key: Any, data: Any = None) -> Any:
    target = jnp.arange(6.0).reshape(2, 3) if data is None else data
    loss = jnp.sum((params["a"] - 2) ** 2) + jnp.sum((params["b"] - target) ** 2)
    return loss, None


def test_the_names_are_optaxs() -> None:
    assert len(NAMES) == 31
    assert {"adamw", "lbfgs", "nadam", "polyak_sgd", "sgd"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:`optimistic_adam` is:DeprecationWarning")
def test_every_optimizer_learns(name: str) -> None:
    """By a rate of its own too, which is a number in the same program."""
    rate = None if name in FREE else RATES.get(name, 0.03)
    for own in dict.fromkeys((rate, None)):
        params, state, data = rx.optimize(
            PRMS, bowl, jr.key(0), optimizer=name, learning_rate=own, steps=100
        )
        losses = np.asarray(data["metrics"]["loss"])
        assert state.best_loss < losses[0]
        assert int(state.skipped) == 0
        assert params["name"] == "bowl" and params["count"].tolist() == [0, 1, 2]
        if own == rate:
            assert losses[-1] < 0.95 * losses[0], losses


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:`optimistic_adam` is:DeprecationWarning")
def test_a_schedule(name: str) -> None:
    def rate(step: Any) -> Any:
        return 0.01 / (1 + step)

    _, state, _ = rx.optimize(
        PRMS, bowl, jr.key(0), optimizer=name, learning_rate=rate, steps=10
    )
    assert float(state.best_loss) < float(bowl(PRMS, None)[0])


@pytest.mark.parametrize("name", ["adamw", "noisy_sgd", "polyak_sgd"])
def test_runs_of_an_optimizer_in_parallel(name: str) -> None:
    def run(rate: Any) -> Any:
        return rx.optimize(
            PRMS, bowl, jr.key(0), optimizer=name, learning_rate=rate, steps=5
        )[1].trained["a"]

    many = jax.vmap(run)(jnp.asarray([0.01, 0.1]))
    assert np.allclose(many[1], run(0.1), rtol=1e-4)
    assert not np.allclose(many[0], many[1])


def test_noise_comes_from_the_key() -> None:
    def run(seed: int) -> Any:
        return rx.optimize(
            PRMS, bowl, jr.key(seed), optimizer="noisy_sgd", steps=5, use_scan=False
        )[0]["a"]

    assert same(run(0), run(0)) and not same(run(0), run(1))


CONTRIB = {
    "adopt": lambda: contrib.adopt(0.03),
    "muon": lambda: contrib.muon(0.03),
    "prodigy": lambda: contrib.prodigy(1.0),
    "momo": lambda: contrib.momo(0.1),
    "schedule_free": lambda: contrib.schedule_free_adamw(0.1),
    "plateau": lambda: optax.chain(optax.adam(0.03), contrib.reduce_on_plateau()),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.03)),
    "backtracking": lambda: optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(20)
    ),
    "masked": lambda: optax.chain(
        optax.sgd(0.03),
        optax.masked(
            optax.set_to_zero(), lambda p: {**dict.fromkeys(p, False), "b": True}
        ),
    ),
    "apply_every": lambda: optax.MultiSteps(optax.sgd(0.03), 2),
}


@pytest.mark.parametrize("name", CONTRIB)
def test_instances(name: str) -> None:
    _, state, data = rx.optimize(
        PRMS, bowl, jr.key(0), optimizer=CONTRIB[name](), steps=50
    )
    assert data["metrics"]["loss"][-1] < data["metrics"]["loss"][0]
    assert int(state.skipped) == 0


def test_lbfgs_finds_the_bottom() -> None:
    def rosenbrock(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2), None

    params, state = rx.optimize(
        jnp.zeros(4), rosenbrock, jr.key(0), optimizer="lbfgs", steps=60, use_scan=False
    )
    assert np.allclose(params, 1, atol=1e-2) and int(state.skipped) == 0


def test_only_inexact_arrays_are_trained() -> None:
    prms = {
        "half": jnp.ones(2, jnp.bfloat16),
        "whole": jnp.arange(2),
        "model": eqx.nn.MLP(2, 1, 4, 1, key=jr.key(0)),
        "number": 3.5,
    }

    def loss(params: Any, key: Any, data: Any = None) -> Any:
        output = params["model"](params["half"].astype(jnp.float32)) + params["number"]
        return jnp.sum(output**2) + params["whole"][1], None

    params, state, _ = rx.optimize(prms, loss, jr.key(0), learning_rate=0.1, steps=5)
    assert params["half"].dtype == jnp.bfloat16 and params["number"] == 3.5
    assert not same(params["half"], prms["half"])
    assert same(params["whole"], prms["whole"])
    assert isinstance(params["model"], eqx.nn.MLP)
    assert jax.tree.structure(params) == jax.tree.structure(prms)
    assert isinstance(state.best_params["model"](jnp.ones(2)), jax.Array)


def test_the_best_loss_belongs_to_the_best_parameters() -> None:
    trainer = rx.OptaxTrainer(
        30,
        "sgd",
        lambda key: jr.normal(key, (3,)),
        rastrigin,
        learning_rate=0.05,  # so large that it jumps about
        record=lambda state: state.trained,
    )
    state, data = trainer.init_and_train(jr.key(1))
    losses = data["metrics"]["loss"]
    assert float(state.best_loss) == float(losses.min()) < float(losses[-1])
    assert np.isclose(rastrigin(state.best_params, None)[0], state.best_loss)
    assert int(losses.argmin()) > 0
    assert same(state.best_params, data["record"][int(losses.argmin()) - 1])
    assert np.isclose(rastrigin(data["record"][-2], None)[0], losses[-1])


def test_a_task_that_is_maximised_rises() -> None:
    class Hill(rx.AbstractTask[Any]):
        @property
        def maximize(self) -> bool:
            return True

        def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
            return 5 - jnp.sum(params**2), {"size": jnp.sum(params**2)}

    for task in (Hill(), eqx.filter_jit(Hill()), rx.Minibatch(Hill(), 1)):
        trainer = rx.OptaxTrainer(50, "adam", lambda key: jnp.ones(2), task, 0.1)
        state, data = trainer.init_and_train(jr.key(0), jnp.zeros((3, 1)))
        assert trainer.objective == ("loss", "max")
        assert data["metrics"]["loss"][0] == 3 and data["metrics"]["loss"][-1] > 4.9
        assert float(state.best_loss) == float(data["metrics"]["loss"].max())
        assert data["metrics"]["eval_data"]["size"].shape == (50,)


# What a step can meet. Each says from the step number whether the step is bad.
FAULTS = {
    "one NaN loss": lambda step, x: jnp.where(step == 3, jnp.nan, 0.0) + 0 * x,
    "infinite loss": lambda step, x: jnp.where(step == 3, jnp.inf, 0.0) + 0 * x,
    "NaN gradient": lambda step, x: jnp.sqrt(jnp.where(step == 3, 0 * x, 1)),
    "every second step": lambda step, x: jnp.where(step % 2 == 1, jnp.nan, 0.0),
    "one coordinate": lambda step, x: jnp.where(
        (step == 3) & (jnp.arange(2) == 0), jnp.nan, 0.0
    ),
    "overflowing square": lambda step, x: jnp.where(step == 3, 1e30, 0.0) * x,
}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop", "lbfgs"])
def test_bad_numbers_are_skipped(optimizer: str) -> None:
    """One program for all faults, which the batch names; it brings the step, too."""

    def loss(x: Any, key: Any, data: Any) -> Any:
        fault, step = data
        faults = [lambda *args, f=f: f(*args) + 0 * x for f in FAULTS.values()]
        spoilt = jax.lax.switch(fault, faults, step, x)
        return jnp.sum((x - 2) ** 2 + x**4 / 10 + spoilt), None

    record = lambda state: state.trained
    trainer = rx.OptaxTrainer(
        20, optimizer, lambda key: jnp.ones(2), loss, opt_kws={}, record=record
    )
    for number, fault in enumerate(FAULTS):
        batches = ((np.asarray(number), np.asarray(step)) for step in range(20))
        _check_skipped(optimizer, fault, *trainer.fit_stream(jr.key(0), batches))


def _check_skipped(optimizer: str, fault: str, state: Any, data: Any) -> None:
    bad = 10 if fault == "every second step" else 1
    moved = np.any(np.diff(data["record"], axis=0, prepend=1.0) != 0, axis=-1)
    if fault != "overflowing square" or optimizer in ("adamw", "rmsprop"):
        assert int(state.skipped) == bad
        assert data["metrics"]["skipped"].tolist()[:5] == (
            [0, 1, 1, 2, 2] if bad == 10 else [0, 0, 0, 1, 1]
        )
        assert not moved[3]
    assert all(
        jnp.all(jnp.isfinite(x))
        for x in jax.tree.leaves((state.trained, state.best_loss))
    )
    assert state.best_loss < data["metrics"]["loss"][0] and np.sum(moved) >= 3


def test_an_instance_that_turns_nan_is_skipped() -> None:
    def turn(updates: Any, state: Any, params: Any = None) -> Any:
        bad = jnp.where(state == 3, jnp.nan, 1.0)
        return jax.tree.map(lambda x: -0.1 * bad * x, updates), state + 1

    optimizer = optax.GradientTransformation(lambda params: jnp.zeros(()), turn)
    _, state, _ = rx.optimize(
        jnp.zeros(2), _pit, jr.key(0), optimizer=optimizer, steps=20
    )
    # The optimiser's state stays too, so that it fails from then on.
    assert int(state.skipped) == 17 and bool(jnp.all(jnp.isfinite(state.trained)))


def test_a_rate_that_is_no_number_is_skipped() -> None:
    def rate(step: Any) -> Any:
        return jnp.where(step == 2, jnp.nan, 0.1)

    _, state, _ = rx.optimize(
        jnp.zeros(2), _pit, jr.key(0), learning_rate=rate, steps=20
    )
    assert int(state.skipped) == 1 and float(state.best_loss) < 2


def _pit(x: Any, key: Any, data: Any = None) -> Any:
    return jnp.sum((x - 2) ** 2), None


def test_a_hundred_skipped_in_a_row_warn() -> None:
    def loss(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(x) * jnp.nan, None

    with pytest.warns(RuntimeWarning, match="100 steps in a row were skipped"):
        params, state = rx.optimize(
            jnp.ones(2), loss, jr.key(0), steps=100, use_scan=False
        )
    assert same(params, jnp.ones(2)) and np.isinf(state.best_loss)


def test_a_hundred_gradients_of_zero_warn() -> None:
    def rounded(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(jnp.round(x) ** 2), None

    def then_flat(x: Any, key: Any, flat: Any) -> Any:
        return jnp.sum(x**2) * jnp.where(flat, 0.0, 1.0), None

    def train(steps: int, loss: Any, data: Any = None) -> Any:
        trainer = rx.OptaxTrainer(steps, "sgd", lambda key: jnp.ones(2), loss)
        return trainer.init_and_train_(jr.key(0), data)

    with pytest.warns(RuntimeWarning, match="exactly 0 in 100 steps.*EvosaxTrainer"):
        state = train(100, rounded)
    zeros = state.guard.zeros
    assert int(zeros.current) == int(zeros.longest) == 100
    train(99, rounded)
    assert int(train(120, then_flat, jnp.asarray(False)).guard.zeros.longest) == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_of_turned_matrices(dtype: str) -> None:
    shapes = {"tall": (6, 2), "wide": (2, 6), "stack": (3, 4, 2), "cube": (5, 3, 2, 2)}
    keys = dict(zip(shapes, jr.split(jr.key(0), len(shapes)), strict=True))
    parameters = {name: jr.normal(keys[name], shapes[name], dtype) for name in shapes}
    parameters["bias"] = jnp.ones(3, dtype)

    def loss(p: Any) -> Any:
        mixed = jnp.tanh(p["tall"] @ p["wide"]).sum() * p["bias"].sum()
        rest = jnp.einsum("sij,klji->s", p["stack"][:, :2], p["cube"])
        total = mixed + (p["bias"] * rest**2).sum() + p["tall"][4, 1] ** 3
        return total.astype(jnp.float32), p["tall"][:, 0]

    (value, report), gradient = jax.jit(value_and_grad(loss))(parameters)
    (expected, other), by_jax = jax.value_and_grad(loss, has_aux=True)(parameters)
    close = 1e-5 if dtype == "float32" else 3e-2
    assert np.allclose(value, expected, close, close) and same(report, other)
    assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, parameters)
    for name, found in gradient.items():
        assert found.dtype == parameters[name].dtype
        assert np.allclose(found, by_jax[name], close, close), name


def test_derivatives_of_a_step_by_a_turned_matrix() -> None:
    weights = jr.normal(jr.key(0), (3, 5, 2))
    inputs = jr.normal(jr.key(1), (7, 2))

    def after(by: Any, weight: Any) -> Any:
        loss = lambda w: (jnp.mean(jnp.tanh(inputs @ w.T) ** 2), None)
        weight = weight - 0.1 * by(loss)(weight)[1]
        return loss(weight)[0]

    by_jax = functools.partial(jax.value_and_grad, has_aux=True)
    for derivative in (jax.grad, jax.jacfwd, jax.hessian):
        found, expected = (
            jax.jit(jax.vmap(derivative(functools.partial(after, by))))(weights)
            for by in (value_and_grad, by_jax)
        )
        assert np.allclose(found, expected, 1e-4, 1e-6)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="Elsewhere it is no faster.")
@pytest.mark.parametrize(
    ("rows", "product"), [(64, "f32[4,64]"), (4096, "f32[4096,4]")]
)
@pytest.mark.parametrize("stacked", [False, True])
def test_a_tall_matrix_is_differentiated_as_its_transpose(
    rows: int, product: str, stacked: bool
) -> None:
    inputs = jr.normal(jr.key(0), (128, 4))
    keys = jr.split(jr.key(1))
    network: Any = eqx.nn.Linear(4, rows, key=keys[0])
    if stacked:
        network = eqx.filter_vmap(lambda key: eqx.nn.Linear(4, rows, key=key))(keys)

    def loss(network: Any) -> Any:
        each = [nth(network, i) for i in range(2)] if stacked else [network]
        outputs = [jnp.tanh(jax.vmap(one)(inputs)) for one in each]
        return jnp.mean(jnp.stack(outputs) ** 2), None

    program = jax.jit(value_and_grad(loss))
    text = program.lower(network).compile().as_text()
    slopes = [line for line in text.splitlines() if "transpose(jvp" in line]
    assert any(f"= {product}" in line and " dot(" in line for line in slopes)
    found, expected = program(network)[1], jax.grad(loss, has_aux=True)(network)[0]
    assert np.allclose(found.weight, expected.weight, 1e-5, 1e-9)


def test_data_reaches_the_loss_unchanged() -> None:
    target = jnp.full((2, 3), 7.0)
    params, _ = rx.optimize(
        PRMS, bowl, jr.key(0), learning_rate=0.1, steps=500, data=target, use_scan=False
    )
    assert np.allclose(params["b"], 7, atol=1e-2)


# Sizes are static: each example is a program.
@given(examples=st.integers(1, 300), batch=st.integers(1, 300), seed=st.integers(0, 9))
@example(examples=1, batch=1, seed=0)
@example(examples=300, batch=7, seed=1)
@example(examples=255, batch=255, seed=2)
@settings(max_examples=25, deadline=None)
def test_every_example_once_in_each_pass(examples: int, batch: int, seed: int) -> None:
    batch = min(batch, examples)
    minibatch = rx.Minibatch(bowl, batch)
    steps = -(-3 * examples // batch)
    draw = jax.vmap(
        lambda step: minibatch.batch(jnp.arange(examples), jr.key(seed), step)
    )
    drawn = jax.jit(draw)(jnp.arange(steps))
    passes = np.concatenate(np.asarray(drawn))[: 3 * examples].reshape(3, examples)
    assert np.array_equal(np.sort(passes), np.tile(np.arange(examples), (3, 1)))
    if examples > 20:
        assert not np.array_equal(passes[0], passes[1]), "not reshuffled"
        assert not np.array_equal(passes[0], np.arange(examples))


def test_the_order_is_random() -> None:
    """Of many passes over five examples, each of the 120 orders comes as often."""
    draw = lambda step: rx.Minibatch(bowl, 5).batch(jnp.arange(5), jr.key(1), step)
    orders = jax.jit(jax.vmap(draw))(jnp.arange(24_000))
    _, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
    assert len(counts) == 120 and np.sum((counts - 200) ** 2 / 200) < 180


def test_the_order_of_much_data_is_random() -> None:
    """The place of one example, and of its neighbour after it, over many passes."""
    size, steps = 2500, 400
    batch = rx.Minibatch(bowl, size).batch
    draw = lambda step: batch(jnp.arange(size), jr.key(1), step)
    orders = jax.jit(lambda: jax.lax.map(draw, jnp.arange(steps)))()
    places = np.argsort(np.asarray(orders), axis=1)
    for place in (0, 1, 1250, 2499):
        counts, _ = np.histogram(places[:, place], bins=10, range=(0, size))
        assert np.sum((counts - 40) ** 2 / 40) < 28
    gaps = (places[:, 7] - places[:, 8]) % size
    assert np.sum((np.histogram(gaps, 10, (0, size))[0] - 40) ** 2 / 40) < 28


def test_sizes_beyond_32_bits() -> None:
    batch = jax.jit(rx.Minibatch(bowl, 4096).batch)
    examples, step = 1_281_167, 10**6
    rows = batch(jnp.arange(examples), jr.key(0), jnp.asarray(step))
    assert len(np.unique(rows)) == 4096 or step * 4096 % examples > examples - 4096
    from realax.tasks._shuffle import _position

    position = jax.jit(lambda step: _position(step, 4096, examples))
    for step in (0, 1, 312, 10**6, 2**31 - 1):
        found = position(jnp.asarray(step, jnp.int32))
        assert tuple(map(int, found)) == (
            step * 4096 // examples % 2**32,
            step * 4096 % examples,
        )


def test_minibatches_in_the_compiled_run() -> None:
    """A run sees each example as often as there were passes, and seeds differ."""

    def loss(x: Any, key: Any, batch: Any) -> Any:
        return jnp.sum(x), batch["index"]

    data = {"index": jnp.arange(12), "x": np.zeros((12, 2))}
    trainer = rx.OptaxTrainer(9, "sgd", lambda key: jnp.ones(1), rx.Minibatch(loss, 4))
    _, record = trainer.init_and_train(jr.key(0), data)
    seen = record["metrics"]["eval_data"].reshape(3, 12)
    assert np.array_equal(np.sort(seen), np.tile(np.arange(12), (3, 1)))
    other = trainer.init_and_train(jr.key(1), data)[1]["metrics"]["eval_data"]
    assert not np.array_equal(seen, other.reshape(3, 12))


def test_minibatches_for_evolution() -> None:
    def loss(x: Any, key: Any, batch: Any) -> Any:
        return jnp.mean((x - batch) ** 2), batch

    data = jnp.arange(20.0)[:, None]
    trainer = rx.EvosaxTrainer(
        3, "SNES", rx.Minibatch(loss, 5), jnp.zeros(1), popsize=4
    )
    _, record = trainer.init_and_train(jr.key(0), data)
    batches = np.asarray(record["metrics"]["eval_data"])
    assert batches.shape == (3, 4, 1, 5, 1)
    assert np.all(batches == batches[:, :1]), "individuals are compared on other data"
    rows = batches[:, 0].reshape(15)
    assert len({*rows}) == 15, "three generations are less than a pass"


class Tensor:
    """What is no jax or numpy array, but can become one, as PyTorch's tensors."""

    def __init__(self, values: Any):
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self.values, dtype)


def _zeros(key: Any) -> Any:
    return jnp.zeros(2)


def _line(w: Any, key: Any, data: Any) -> Any:
    x, y = data
    return jnp.mean((x @ w - y) ** 2), None


def _batches(count: int, size: int = 20) -> Iterator[Any]:
    generator = np.random.default_rng(0)
    for _ in range(count):
        x = generator.normal(size=(size, 2))
        yield [Tensor(x), x @ np.asarray([1.0, -2.0])]


def test_a_stream_of_batches() -> None:
    trainer = rx.OptaxTrainer(500, "adam", _zeros, _line, 0.05)
    state, data = trainer.fit_stream(jr.key(0), _batches(200))
    assert int(state.step) == 200 and data["metrics"]["loss"].shape == (200,)
    assert np.allclose(state.params, [1, -2], atol=1e-2)
    state, data = trainer.train_stream(state, jr.key(0), _batches(7))
    assert int(state.step) == 207 and data["metrics"]["loss"].shape == (7,)


def test_a_stream_ends_at_train_steps() -> None:
    taken: list[int] = []

    def endless() -> Iterator[Any]:
        for batch in _batches(10**9):
            taken.append(1)
            yield batch

    trainer = rx.OptaxTrainer(9, "adam", _zeros, _line)
    state, _ = trainer.fit_stream(jr.key(0), endless())
    assert int(state.step) == 9 == len(taken)


def test_a_stream_is_the_same_as_the_whole() -> None:
    """Steps with the same data each: a stream of copies, and a run."""
    data = next(_batches(1))
    whole = [jnp.asarray(np.asarray(x)) for x in data]
    trainer = rx.OptaxTrainer(9, "adam", _zeros, _line)
    expected = trainer.init_and_train(jr.key(0), whole)
    assert same(trainer.fit_stream(jr.key(0), [data] * 9), expected)


def test_a_stream_compiles_once_and_is_observed() -> None:
    trainer = rx.OptaxTrainer(500, "adam", _zeros, _line)
    trainer.fit_stream(jr.key(0), _batches(3))
    with compilations() as names:
        trainer.fit_stream(jr.key(1), _batches(9))
    assert names == []
    seen: list[int] = []

    class Watch(rx.AbstractObserver):
        def on_chunk(self, steps: Any, selected: Any, state: Any) -> None:
            seen.extend(steps)

    watched = rx.OptaxTrainer(500, "adam", _zeros, _line, callbacks=Watch())
    watched.fit_stream(jr.key(0), _batches(9))
    assert seen == [*range(1, 10)]


def test_a_batch_may_be_overwritten_by_the_next() -> None:
    def loss(x: Any, key: Any, data: Any) -> Any:
        return jnp.sum(x), data[0]

    def refilling() -> Iterator[Any]:
        buffer = np.zeros(1024, np.float32)
        for i in range(20):
            buffer[:] = i
            yield buffer

    trainer = rx.OptaxTrainer(30, "sgd", lambda key: jnp.ones(1), loss)
    _, data = trainer.fit_stream(jr.key(0), refilling())
    assert data["metrics"]["eval_data"].tolist() == [*range(20)]


def test_half_precision_trains() -> None:
    def loss(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum((x.astype(jnp.float32) - 1) ** 2), None

    start = jnp.full(100_000, 2.0, jnp.float16)
    _, state, data = rx.optimize(
        start, loss, jr.key(0), optimizer="sgd", learning_rate=0.1, steps=5
    )
    assert int(state.skipped) == 0 and data["metrics"]["grad_norm"][0] > 600
    assert data["metrics"]["loss"][-1] < data["metrics"]["loss"][0]


def test_numbers_of_another_type_are_another_program() -> None:
    def loss(params: Any, key: Any, data: Any = None) -> Any:
        factor = 1.0 if isinstance(params["p"], int) else 2.0
        return factor * jnp.sum(params["x"] ** 2), None

    for p, expected in ((2, 3.0), (2.0, 6.0)):
        prms = {"x": jnp.ones(3), "p": p}
        params, _, data = rx.optimize(prms, loss, jr.key(0), steps=1)
        assert data["metrics"]["loss"][0] == expected
        assert type(params["p"]) is type(p)


def test_a_wrapped_minibatch_goes_through_passes_too() -> None:
    def loss(x: Any, key: Any, batch: Any) -> Any:
        return jnp.sum(x), batch

    wrapped = eqx.filter_jit(rx.Minibatch(loss, 4))
    _, record = rx.OptaxTrainer(
        3, "sgd", lambda key: jnp.ones(1), wrapped
    ).init_and_train(jr.key(0), jnp.arange(12))
    assert sorted(record["metrics"]["eval_data"].ravel().tolist()) == [*range(12)]


@pytest.mark.parametrize("epochs", [9, 500])
def test_a_finished_stream_returns_at_once(epochs: int, tmp_path: Any) -> None:
    """Cut off and taken up again, it skips the batches that it had taken."""

    def fit(count: int) -> Any:
        return rx.OptaxTrainer(
            epochs,
            "adam",
            _zeros,
            _line,
            callbacks=rx.Checkpointer(tmp_path / str(epochs), every=4),
        ).fit_stream(jr.key(0), _batches(count))

    bare = rx.OptaxTrainer(epochs, "adam", _zeros, _line)
    expected, _ = bare.fit_stream(jr.key(0), _batches(9))
    fit(5)
    assert same(fit(9)[0], expected)
    state, data = fit(9)
    assert same(state, expected) and data["metrics"]["loss"].shape == (0,)


def test_wrong_streams() -> None:
    trainer = rx.OptaxTrainer(500, "adam", _zeros, _line)
    with pytest.raises(ValueError, match="at least one batch.*make a new one"):
        trainer.fit_stream(jr.key(0), iter(()))
    with pytest.raises(RuntimeError, match=r"pass all data at once"):
        jax.jit(lambda key: trainer.fit_stream(key, _batches(3)))(jr.key(0))

    def broken() -> Iterator[Any]:
        yield next(_batches(1))
        raise ConnectionError("the disk went away")

    with pytest.raises(ConnectionError, match="the disk went away"):
        trainer.fit_stream(jr.key(0), broken())
    with pytest.raises(TypeError, match=r"got 'a' of type str at `\['name'\]`"):
        trainer.fit_stream(jr.key(0), [{"x": np.ones(2), "name": "a"}])


@pytest.mark.parametrize("name", ["adamw", "sgd", "rprop", "lion"])
def test_the_derivative_by_the_learning_rate(name: str) -> None:
    with jax.enable_x64(True):

        def start(key: Any) -> Any:
            return jnp.ones(3)

        def quartic(x: Any, key: Any, data: Any = None) -> Any:
            return jnp.sum((x - 2) ** 2) + jnp.sum(x**4) / 10, None

        def final(rate: Any) -> Any:
            trainer = rx.OptaxTrainer(12, name, start, quartic, rate)
            return trainer.init_and_train(jr.key(0))[1]["metrics"]["loss"][-1]

        slope = jax.grad(final)(0.01)
        difference = (final(0.01 + 1e-6) - final(0.01 - 1e-6)) / 2e-6
        assert abs(slope) > 1e-2
        assert np.isclose(slope, difference, rtol=1e-5)


def test_an_array_among_the_keywords_is_a_leaf() -> None:
    def run(decay: Any) -> Any:
        trainer = rx.OptaxTrainer(
            5, "adamw", lambda key: jnp.ones(2), bowl_, opt_kws={"weight_decay": decay}
        )
        return trainer.init_and_train_(jr.key(0)).trained

    def bowl_(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum((x - 2) ** 2), None

    many = jax.vmap(run)(jnp.asarray([0.0, 0.5]))
    assert same(many[0], run(0.0)) and not same(many[0], many[1])


def test_one_call_after_another_compiles_nothing() -> None:
    rx.optimize(jnp.ones(3), rastrigin, jr.key(0), steps=10)
    with compilations() as names:
        rx.optimize(jnp.zeros(3), rastrigin, jr.key(1), steps=10, learning_rate=0.5)
    assert names == []


def bare_loss(params: Any, key: Any, data: Any = None) -> Any:
    return jnp.sum(params)


def vector_loss(params: Any, key: Any, data: Any = None) -> Any:
    return params, None


_KEY = jr.key(0)
WRONG: list[tuple[Any, str, dict[str, Any]]] = [
    (ValueError, "no optimiser 'adamm'.*'adam'", {"optimizer": "adamm"}),
    (ValueError, "a gradient for each example", {"optimizer": "dpsgd"}),
    (ValueError, r"optax\.contrib\.muon\(\.\.\.\)", {"optimizer": "muon"}),
    (TypeError, "`optimizer` of `Optax", {"optimizer": optax.adam}),
    (ValueError, "takes no 'beta1'.*'b1'", {"opt_kws": {"beta1": 0.9}}),
    (
        ValueError,
        "Pass `learning_rate`",
        {"opt_kws": {"learning_rate": 0.1}},
    ),
    (
        ValueError,
        "beside an instance, which has its own",
        {"optimizer": optax.adam(0.1), "learning_rate": 0.1},
    ),
    (
        ValueError,
        "Pass them to its constructor",
        {"optimizer": optax.adam(0.1), "opt_kws": {"b1": 0.1}},
    ),
    (ValueError, "shape \\(2,\\)", {"learning_rate": jnp.ones(2)}),
    (TypeError, r"signature \(params, key, data\)", {"loss_fn": lambda x: (x, None)}),
    (TypeError, r"must return a pair \(params, key", {"loss_fn": bare_loss}),
    (TypeError, "a number of shape", {"loss_fn": vector_loss}),
    (
        TypeError,
        r"`initializer` must have the signature \(key\)",
        {"initializer": lambda: jnp.ones(2)},
    ),
    (
        ValueError,
        "`learning_rate` must return one number",
        {"learning_rate": lambda step: jnp.ones(2) * step},
    ),
    (ValueError, "`epochs` of `OptaxTrainer` must be", {"epochs": 0}),
    (ValueError, "`initializer` returns must hold", {"initializer": lambda k: 1}),
    (
        ValueError,
        "a gradient for each example",
        {"optimizer": contrib.differentially_private_aggregate(1.0, 0.1, key=_KEY)},
    ),
    (
        TypeError,
        "could not make its update .* or a schedule of it returned None",
        {"optimizer": optax.sgd(lambda step: None)},  # pyright: ignore
    ),
    (
        ValueError,
        r"what `initializer` returns must hold finite numbers, but got 1 of 2",
        {"initializer": lambda key: jnp.asarray([1.0, jnp.nan])},
    ),
    (
        TypeError,
        "sam could not make its update",
        {"optimizer": contrib.sam(optax.sgd(0.1), optax.sgd(0.1), opaque_mode=True)},
    ),
]


@pytest.mark.parametrize(("error", "text", "wrong"), WRONG)
def test_wrong_arguments(error: Any, text: str, wrong: dict[str, Any]) -> None:
    kws: dict[str, Any] = {
        "epochs": 3,
        "optimizer": "adam",
        "initializer": lambda key: jnp.ones(2),
        "loss_fn": rastrigin,
    }
    with pytest.raises(error, match=text):
        rx.OptaxTrainer(**{**kws, **wrong}).init_and_train(jr.key(0))


def test_wrong_minibatches() -> None:
    def run(size: int, data: Any) -> None:
        rx.optimize(
            jnp.ones(1), rx.Minibatch(vector_loss, size), jr.key(0), data=data, steps=1
        )

    with pytest.raises(
        ValueError, match="at most 3, the examples in `data`, but got 4"
    ):
        run(4, jnp.ones((3, 1)))
    with pytest.raises(ValueError, match=r"one common leading axis.*3 at `\['a'\]`, 4"):
        run(1, {"a": jnp.ones(3), "b": jnp.ones((4, 2))})
    with pytest.raises(ValueError, match=r"trainer\.init_and_train\(key, data\)"):
        run(1, None)
    with pytest.raises(TypeError, match="a leading axis of examples"):
        run(1, {"a": jnp.ones(3), "b": jnp.ones(())})
    with pytest.raises(
        ValueError, match="`batch_size` of `Minibatch` must.*at least 1"
    ):
        rx.Minibatch(bowl, 0)
    with pytest.raises(TypeError, match="`loss_fn` must have the signature"):
        rx.Minibatch(lambda x: x, 1)


def test_the_signature_is_the_readmes() -> None:
    names = list(inspect.signature(rx.optimize).parameters)
    assert names[:3] == ["prms", "loss_fn", "key"]
    trainer = rx.OptaxTrainer(
        epochs=64,
        optimizer="adamw",
        initializer=lambda key: jr.normal(key, (2,)),
        loss_fn=rastrigin,
        learning_rate=1e-3,
    )
    _, data = trainer.init_and_train(jr.key(2))
    assert data["metrics"]["loss"].shape == (64,) and trainer.epochs == 64
    params, state = rx.optimize(
        jnp.ones(2), rastrigin, jr.key(2), steps=8, use_scan=False
    )
    assert params.shape == (2,) and int(state.step) == 8


def test_arrays_on_different_devices() -> None:
    first, second = jax.devices()[:2]
    params = {"w": jax.device_put(jnp.ones(2), second)}

    def loss(params: Any, key: Any, data: Any) -> Any:
        return jnp.sum((params["w"] - data) ** 2), None

    def run(data: Any) -> Any:
        return rx.optimize(params, loss, jr.key(0), data=data, steps=2)[0]["w"]

    words = r"`trainer.*\['w'\].* on cpu:1 and `data` on cpu:0\. Move one"
    with pytest.raises(ValueError, match=words):
        run(jax.device_put(jnp.zeros(2), first))
    assert run(jnp.zeros(2)).devices() == {second}
    trainer = rx.OptaxTrainer(2, "sgd", lambda key: {"w": jnp.ones(2)}, loss)
    state = jax.device_put(trainer.initialize(jr.key(0)), second)
    with pytest.raises(ValueError, match="`state.*` on cpu:1 and `data` on"):
        trainer.train(state, jr.key(0), jax.device_put(jnp.zeros(2), first))
