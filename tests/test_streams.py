"""Streams of batches: what is taken of them, in which settings, in how many calls."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx

from .helpers import compilations, same


def _line(w: Any, key: Any, data: Any) -> Any:
    x, y = data
    return jnp.mean((x @ w - y) ** 2), None


def _batches(count: int, size: int = 8) -> list[Any]:
    generator = np.random.default_rng(0)
    xs = generator.normal(size=(count, size, 3)).astype(np.float32)
    noise = generator.normal(size=(count, size)).astype(np.float32)
    weights = np.arange(3, dtype=np.float32)
    return [(x, x @ weights + 0.1 * n) for x, n in zip(xs, noise, strict=True)]


def _zeros(key: Any) -> Any:
    return jnp.zeros(3)


def _trainer(steps: int, *callbacks: Any, rate: float = 0.1) -> Any:
    return rx.OptaxTrainer(steps, "sgd", _zeros, _line, rate, callbacks=callbacks)


def _by_hand(batches: list[Any]) -> np.ndarray:
    w = np.zeros(3)
    for x, y in batches:
        w -= 0.1 * 2 * x.T.astype(float) @ (x @ w - y) / len(x)
    return w


def test_is_a_loop_by_hand() -> None:
    batches = _batches(300)
    state, data = _trainer(300).fit_stream(jr.key(0), iter(batches))
    assert np.allclose(state.params, _by_hand(batches), atol=1e-4)
    assert data["metrics"]["loss"].shape == (300,)
    observed, _ = _trainer(300, rx.EarlyStopping(target=-1.0)).fit_stream(
        jr.key(0), iter(batches)
    )
    assert same(observed.params, state.params), "one batch after another is the same"


def test_shapes_that_change() -> None:
    sizes = [8, 8, 8, 3, 8, 8, 3, 3, 8]
    batches = [_batches(1, size)[0] for size in sizes]
    state, _ = _trainer(9).fit_stream(jr.key(0), batches)
    assert np.allclose(state.params, _by_hand(batches), atol=1e-4)
    with compilations() as names:
        _trainer(9).fit_stream(jr.key(0), batches)
    assert names == []


@pytest.mark.parametrize("kind", ["numpy", "float64", "jax", "list"])
def test_batches_of_every_kind(kind: str) -> None:
    batches = _batches(20)
    convert: Any = {
        "numpy": lambda x: x,
        "float64": lambda x: x.astype(np.float64),
        "jax": jnp.asarray,
        "list": lambda x: jnp.asarray(x).tolist(),
    }[kind]
    if kind == "list":

        def loss(w: Any, key: Any, data: Any) -> Any:
            return (w[0] - data["a"]) ** 2, None

        trainer = rx.OptaxTrainer(20, "sgd", _zeros, loss, 0.1)
        state, _ = trainer.fit_stream(jr.key(0), ({"a": 1.0 * i} for i in range(20)))
        expected = 0.0
        for i in range(20):
            expected -= 0.2 * (expected - i)
        assert np.isclose(state.params[0], expected, rtol=1e-4)
        return
    given = [tuple(map(convert, batch)) for batch in batches]
    state, _ = _trainer(20).fit_stream(jr.key(0), given)
    assert np.allclose(state.params, _by_hand(batches), atol=1e-4)


def test_keys_as_batches() -> None:
    def loss(w: Any, key: Any, data: Any) -> Any:
        return jnp.sum((w - jr.normal(data, (3,))) ** 2), None

    keys = list(jr.split(jr.key(1), 5))
    trainer = rx.OptaxTrainer(5, "sgd", _zeros, loss, 0.1)
    state, _ = trainer.fit_stream(jr.key(0), keys)
    w = np.zeros(3)
    for key in keys:
        w -= 0.2 * (w - np.asarray(jr.normal(key, (3,))))
    assert np.allclose(state.params, w, atol=1e-5)


def test_an_early_stop_drops_no_batch() -> None:
    stop = rx.EarlyStopping(target=0.02)
    iterator = iter(_batches(200))
    state, data = _trainer(200, stop).fit_stream(jr.key(0), iterator)
    used = int(data["stopped_at"])
    assert 5 < used == int(state.step) < 200
    assert len(list(iterator)) == 200 - used
    more = iter(_batches(5))
    _trainer(200, stop).train_stream(state, jr.key(0), more)
    # One is fetched for the types of an empty record, as the docstring says.
    assert len(list(more)) == 4
    # Of an iterable, nobody else sees the iterator.
    again, _ = _trainer(200, stop).fit_stream(jr.key(0), _batches(200))
    assert same(again, state)


def test_no_batch_is_taken_beyond_the_last_step() -> None:
    iterator = iter(_batches(200))
    _trainer(150).fit_stream(jr.key(0), iterator)
    assert len(list(iterator)) == 50


def test_the_source_has_the_settings_and_the_thread_of_the_caller() -> None:
    seen = list[Any]()

    def source() -> Iterator[Any]:
        for _ in range(3):
            seen.append((threading.current_thread(), jnp.ones(()).dtype))
            seen.append(next(iter(jnp.ones(()).devices())))
            yield jnp.linspace(0.0, 1.0, 3)

    def loss(w: Any, key: Any, data: Any) -> Any:
        return jnp.sum((w - data) ** 2), None

    with jax.enable_x64(True), jax.default_device(jax.devices()[1]):
        trainer = rx.OptaxTrainer(3, "sgd", _zeros, loss, 0.1)
        state, _ = trainer.fit_stream(jr.key(0), source())
        assert state.params.dtype == jnp.float64
    assert set(seen[::2]) == {(threading.current_thread(), jnp.dtype("float64"))}
    assert set(seen[1::2]) == {jax.devices()[1]}


def test_few_calls_for_many_batches() -> None:
    """A source that is fast shares the cost of a call among its batches."""

    class Count(rx.AbstractObserver):
        handle: rx.Handle[list[int]] = rx.Handle([])

        def on_chunk(self, steps: Any, selected: Any, state: Any) -> None:
            assert self.handle.value is not None
            self.handle.value.append(len(steps))

    count = Count()
    _trainer(600, count).fit_stream(jr.key(0), _batches(600))
    assert count.handle.value is not None
    assert sum(count.handle.value) == 600 and len(count.handle.value) < 100


def test_a_slow_source_is_not_waited_for() -> None:
    """What is there is computed, before the next batch comes."""

    class Look(rx.AbstractObserver):
        def on_chunk(self, steps: Any, selected: Any, state: Any) -> None:
            done.append((int(steps[-1]), len(fetched)))

    fetched, done = list[int](), list[tuple[int, int]]()

    def slow() -> Iterator[Any]:
        for i, batch in enumerate(_batches(6)):
            time.sleep(0.05)
            fetched.append(i)
            yield batch

    _trainer(6, Look()).fit_stream(jr.key(0), slow())
    assert all(taken - used <= 1 for used, taken in done)


def test_a_source_that_fails_loses_no_step(tmp_path: Any) -> None:
    """What was computed before is seen and saved, at whatever batch it fails."""
    for good in (1, 3, 150):
        folder = tmp_path / str(good)

        def source(good: int = good) -> Iterator[Any]:
            yield from _batches(good)
            raise ConnectionError("the disk went away")

        with pytest.raises(ConnectionError):
            _trainer(400, rx.Checkpointer(folder, every=1000)).fit_stream(
                jr.key(0), source()
            )
        like = _trainer(1).initialize(jr.key(0))
        saved = rx.load_checkpoint(folder, like)
        assert int(saved.step) == good
        assert np.allclose(saved.params, _by_hand(_batches(good)), atol=1e-4)


def test_ctrl_c_in_a_source_loses_no_step(tmp_path: Any) -> None:
    def source() -> Iterator[Any]:
        yield from _batches(20)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer = _trainer(400, rx.Checkpointer(tmp_path, every=1000))
        trainer.fit_stream(jr.key(0), source())
    like = _trainer(1).initialize(jr.key(0))
    assert int(rx.load_checkpoint(tmp_path, like).step) >= 1


def test_an_iterable_is_asked_for_one_iterator() -> None:
    class Source:
        asked = 0

        def __iter__(self) -> Any:
            self.asked += 1
            return iter(_batches(5))

    source = Source()
    _trainer(5, rx.EarlyStopping(patience=50)).fit_stream(jr.key(0), source)
    assert source.asked == 1
