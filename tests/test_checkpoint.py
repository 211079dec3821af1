"""Checkpoints: exact resume, damaged files, signals, kills."""

import errno
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import realax as rx
from realax._storage import _files as storage
from realax._trees import with_fields
from realax.training.observers import _lock

from .helpers import (
    ROOT,
    close,
    environment,
    rastrigin,
    run_of,
    same,
)


def _trainer(
    folder: Any, steps: int, every: int = 10, keep: int = 3, **kws: Any
) -> Any:
    kws = {"params_like": jnp.ones(3), "popsize": 8, **kws}
    checkpointer = rx.Checkpointer(folder, every=every, keep=keep)
    return rx.EvosaxTrainer(steps, "SNES", rastrigin, callbacks=checkpointer, **kws)


def _files(folder: pathlib.Path) -> list[int]:
    return sorted(int(path.stem.split("_")[1]) for path in folder.glob("*.ckpt"))


def test_what_is_kept(tmp_path: pathlib.Path) -> None:
    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.nan * jnp.sum(x), None

    _trainer(tmp_path / "a", 60, every=10, keep=2).init_and_train_(jr.key(0))
    assert _files(tmp_path / "a")[-2:] == [50, 60]
    checkpointer = rx.Checkpointer(tmp_path / "b", every=10, keep=1)
    trainer = rx.EvosaxTrainer(
        40, "SNES", task, jnp.ones(2), callbacks=checkpointer, popsize=4
    )
    trainer.init_and_train_(jr.key(0))
    assert _files(tmp_path / "b") == [40]


def test_a_nan_is_never_the_best(tmp_path: pathlib.Path) -> None:
    def loss(x: Any, key: Any, data: Any) -> Any:
        return jnp.sum(x**2) * 0 + data, None

    losses = [5.0, 1.0, jnp.nan, 3.0, jnp.nan, jnp.nan]
    trainer = rx.OptaxTrainer(
        6,
        "sgd",
        lambda key: jnp.ones(1),
        loss,
        callbacks=rx.Checkpointer(tmp_path, every=1, keep=1),
    )
    trainer.fit_stream(jr.key(0), losses)
    assert _files(tmp_path) == [2, 6]


def test_another_run_is_refused(tmp_path: pathlib.Path) -> None:
    _trainer(tmp_path, 20).init_and_train_(jr.key(0))
    with pytest.raises(ValueError, match="another run.*key: key<fry>"):
        _trainer(tmp_path, 20).init_and_train_(jr.key(1))
    with pytest.raises(ValueError, match="popsize: 8 then, 12 now"):
        _trainer(tmp_path, 20, popsize=12).init_and_train_(jr.key(0))
    with pytest.raises(ValueError, match=r"es_params\.std_init: float32 1\.0"):
        trainer = _trainer(tmp_path, 20, es_params={"std_init": 0.5})
        trainer.init_and_train_(jr.key(0))
    with pytest.raises(ValueError, match=r"params_like: float32\[3\]"):
        _trainer(tmp_path, 20, params_like=jnp.zeros(3)).init_and_train_(jr.key(0))
    trainer = _trainer(tmp_path, 20, progress_bar=True)
    assert int(trainer.init_and_train_(jr.key(0)).step) == 20, "observers do not count"


def test_another_function_is_refused(tmp_path: pathlib.Path) -> None:
    def make(task: Any) -> Any:
        checkpointer = rx.Checkpointer(tmp_path)
        return rx.EvosaxTrainer(5, "SNES", task, jnp.ones(2), callbacks=checkpointer)

    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(x**2), None

    make(task).init_and_train_(jr.key(0))
    other = eqx.filter_jit(task)
    make(other).init_and_train_(jr.key(0))
    with pytest.raises(ValueError, match=r"task.*is_refused.*rastrigin now"):
        make(rastrigin).init_and_train_(jr.key(0))


def test_another_environment_warns(tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XLA_FLAGS", "")
    _trainer(tmp_path, 10).init_and_train_(jr.key(0))
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    with pytest.warns(RuntimeWarning, match="XLA_FLAGS:  then, --xla"):
        _trainer(tmp_path, 20).init_and_train_(jr.key(0))


def test_other_compiler_options_warn(tmp_path: pathlib.Path) -> None:
    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(x**2), None

    def train(steps: int) -> Any:
        checkpointer = rx.Checkpointer(tmp_path)
        trainer = rx.OptaxTrainer(
            steps, "sgd", lambda key: jnp.ones(2), task, callbacks=checkpointer
        )
        return trainer.init_and_train_(jr.key(0))

    train(5)
    task.compiler_options = {"xla_cpu_prefer_vector_width": 128}  # pyright: ignore[reportFunctionMemberAccess]
    with pytest.warns(RuntimeWarning, match="options: nothing then, .*width=128 now"):
        train(10)
    train(15)


def test_going_on_by_hand(tmp_path: pathlib.Path) -> None:
    trainer = _trainer(tmp_path, 20)
    state = trainer.init_and_train_(jr.key(0))
    run_key = jr.split(jr.key(0))[1]
    assert int(trainer.train_(state, run_key).step) == 40
    assert _files(tmp_path)[-1] == 40


def test_reading_by_hand(tmp_path: pathlib.Path) -> None:
    trainer = _trainer(tmp_path, 20)
    state = trainer.init_and_train_(jr.key(0))
    like = trainer.initialize(jr.key(5))
    assert same(rx.load_checkpoint(tmp_path, like), state)
    file = tmp_path / "step_0000000010.ckpt"
    assert int(rx.load_checkpoint(file, like).step) == 10
    part = rx.load_checkpoint(tmp_path, like.es_state.mean, at="state.es_state.mean")
    assert same(part, state.es_state.mean)
    only = eqx.tree_at(lambda s: s.es_state, like, None, is_leaf=lambda x: x is None)
    assert same(rx.load_checkpoint(tmp_path, only).best_flat, state.best_flat)
    key = rx.load_checkpoint(tmp_path, jr.key(3), at="key")
    assert same(key, jr.split(jr.key(0))[1])
    wide = eqx.tree_at(lambda s: s.best_flat, like, jnp.zeros((2, 2)))
    with pytest.raises(
        rx.MisfitError,
        match=r"`state\.best_flat`: expected float32\[2, 2\], but got float32\[3\]",
    ):
        rx.load_checkpoint(tmp_path, wide)
    with pytest.raises(rx.MisfitError, match="`state.nothing`: .* the file has none"):
        rx.load_checkpoint(tmp_path, jnp.ones(1), at="state.nothing")
    with pytest.raises(FileNotFoundError, match="no checkpoint that can be read"):
        (tmp_path / "empty").mkdir()
        rx.load_checkpoint(tmp_path / "empty", like)


LEAVES: dict[str, Any] = {
    "float8": jnp.ones(3, jnp.float8_e4m3fn),
    "bfloat16": jnp.arange(3, dtype=jnp.bfloat16),
    "int4": jnp.arange(3, dtype=jnp.int4),
    "bool": jnp.array([True, False]),
    "complex": jnp.ones(2, jnp.complex64),
    "empty": jnp.zeros((0, 3)),
    "scalar": jnp.float32(2.5),
    "key": jr.key(3),
    "keys": jr.split(jr.key(3, impl="rbg"), 2),
    "nan": jnp.array([jnp.nan, -0.0, jnp.inf]),
    "large": np.arange(5, dtype=np.uint64) + 2**63,
    "odd": jnp.ones(3, jnp.int8),
}


def test_every_kind_of_array(tmp_path: pathlib.Path) -> None:
    model = eqx.nn.MLP(2, 1, 4, 1, key=jr.key(0))
    tree = {**LEAVES, "model": model, "name": "kept from `like`", "number": 3}
    rx.save_params(tmp_path / "deep" / "file", tree)
    like = jax.tree.map(lambda x: x * 0 if _ordinary(x) else x, tree)
    loaded = rx.load_params(tmp_path / "deep" / "file", like)
    assert same(*(eqx.filter(t, eqx.is_array) for t in (loaded, tree)))
    assert jax.tree.structure(loaded) == jax.tree.structure(tree)
    assert isinstance(loaded["large"], np.ndarray)
    assert np.signbit(loaded["nan"][1])


def _ordinary(x: Any) -> bool:
    return eqx.is_inexact_array(x) and x.dtype == jnp.float32


def _saved(tmp_path: pathlib.Path) -> tuple[pathlib.Path, bytes]:
    path = tmp_path / "file"
    rx.save_params(path, {"a": jnp.arange(40.0), "b": jr.key(0)})
    return path, path.read_bytes()


def test_no_flipped_bit_is_loaded(tmp_path: pathlib.Path) -> None:
    path, good = _saved(tmp_path)
    generator = random.Random(0)
    for bit in generator.sample(range(8 * len(good)), 300):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        with pytest.raises(rx.CorruptFileError):
            rx.load_params(path, {"a": jnp.zeros(40), "b": jr.key(1)})


def test_no_truncated_file_is_loaded(tmp_path: pathlib.Path) -> None:
    path, good = _saved(tmp_path)
    for tenth in range(10):
        path.write_bytes(good[: len(good) * tenth // 10])
        with pytest.raises(rx.CorruptFileError):
            rx.load_params(path, {"a": jnp.zeros(40)})
    path.write_bytes(good + b"\0")
    with pytest.raises(rx.CorruptFileError):
        rx.load_params(path, {"a": jnp.zeros(40)})


def _rewrite(path: pathlib.Path, change: Any) -> None:
    """Alter a file's tree of arrays, with a right checksum all the same."""
    stored = storage.read(path)
    trees: dict[str, Any] = {}
    for name, leaf in stored.leaves.items():
        like = np.zeros(leaf["data_shape"], leaf["stored"])
        if leaf["key"] is not None:
            like = jr.wrap_key_data(jnp.asarray(like), impl=leaf["key"])
        trees[name] = stored.fill(name, like)
    storage.write(path, change(trees), stored.meta)


def _renamed(trees: Any) -> Any:
    return {
        ("state.other" if k == "state.best_flat" else k): v for k, v in trees.items()
    }


def _cast(trees: Any) -> Any:
    return {**trees, "state.best_flat": trees["state.best_flat"].astype("float64")}


def _missing(trees: Any) -> Any:
    return {k: v for k, v in trees.items() if k != "state.best_flat"}


def _flipped(path: pathlib.Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)


DAMAGES: dict[str, Any] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "a bit": _flipped,
    "renamed": lambda path: _rewrite(path, _renamed),
    "cast": lambda path: _rewrite(path, _cast),
    "missing": lambda path: _rewrite(path, _missing),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_reported(damage: str, tmp_path: pathlib.Path) -> None:
    expected = _trainer(tmp_path / "other", 40).init_and_train_(jr.key(0))
    _trainer(tmp_path / "run", 30).init_and_train_(jr.key(0))
    DAMAGES[damage](tmp_path / "run" / "step_0000000030.ckpt")
    with pytest.warns(RuntimeWarning, match="30.ckpt.*The checkpoint before it is tri"):
        state, data = _trainer(tmp_path / "run", 40).init_and_train(jr.key(0))
    assert same(state, expected)
    assert len(data["metrics"]["failed"]) == 20


def test_only_damaged_ones_are_an_error(tmp_path: pathlib.Path) -> None:
    _trainer(tmp_path, 10).init_and_train_(jr.key(0))
    for path in tmp_path.glob("*.ckpt"):
        _flipped(path)
    with (
        pytest.warns(RuntimeWarning, match="truncated or altered"),
        pytest.raises(rx.CorruptFileError, match="or empty the folder"),
    ):
        _trainer(tmp_path, 20).init_and_train_(jr.key(0))


def test_an_error_saves_once_more(tmp_path: pathlib.Path) -> None:
    class Fail(rx.AbstractObserver):
        def on_chunk(self, steps: Any, selected: Any, state: Any) -> None:
            if steps[-1] > 20:
                raise ZeroDivisionError("mine")

    checkpointer = rx.Checkpointer(tmp_path, every=1000)
    trainer = rx.EvosaxTrainer(
        100,
        "SNES",
        rastrigin,
        jnp.ones(2),
        callbacks=(Fail(every=15), checkpointer),
    )
    with pytest.raises(ZeroDivisionError, match="mine"):
        trainer.init_and_train_(jr.key(0))
    assert _files(tmp_path) == [15], "of the last step that all had seen"


def test_more_differences_are_seen(tmp_path: pathlib.Path) -> None:
    class Hidden(rx.AbstractTask[Any]):
        _target: Any
        maximize: bool = False

        def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
            return jnp.sum((params - self._target) ** 2), None

    def make(target: float, rate: float) -> Any:
        return rx.OptaxTrainer(
            5,
            optax.chain(optax.clip(1.0), optax.adam(rate)),
            _start_at,
            eqx.filter_jit(Hidden(jnp.asarray(target))),
            callbacks=rx.Checkpointer(tmp_path),
        )

    make(1.0, 0.1).init_and_train_(jr.key(0))
    make(1.0, 0.1).init_and_train_(jr.key(0))
    with pytest.raises(ValueError, match=r"_target: float32 1\.0"):
        make(2.0, 0.1).init_and_train_(jr.key(0))
    with pytest.raises(ValueError, match=r"optimizer.*-0\.1 then, -0\.2 now"):
        make(1.0, 0.2).init_and_train_(jr.key(0))
    with pytest.raises(ValueError, match="one of kind 'rbg'"):
        make(1.0, 0.1).init_and_train_(jr.key(0, impl="rbg"))


def _start_at(key: Any) -> Any:
    return jnp.ones(2)


def test_another_start_is_another_run(tmp_path: pathlib.Path) -> None:
    trainer = _trainer(tmp_path, 20)
    states = [trainer.initialize(jr.key(i)) for i in range(2)]
    states[1] = eqx.tree_at(lambda s: s.best_flat, states[1], jnp.full(3, 5.0))
    trainer.train_(states[0], jr.key(0))
    with pytest.raises(ValueError, match="the state at step 0"):
        trainer.train_(states[1], jr.key(0))


def test_damaged_ones_do_not_count_as_the_newest(tmp_path: pathlib.Path) -> None:
    _trainer(tmp_path, 40).init_and_train_(jr.key(0))
    assert _files(tmp_path)[-3:] == [20, 30, 40]
    for step in (30, 40):
        _flipped(tmp_path / f"step_{step:010d}.ckpt")
    with pytest.warns(RuntimeWarning, match="truncated or altered"):
        _trainer(tmp_path, 30, keep=1).init_and_train_(jr.key(0))
    assert _files(tmp_path)[-1] == 30
    state = rx.load_checkpoint(tmp_path, _trainer(tmp_path, 1).initialize(jr.key(0)))
    assert int(state.step) == 30
    assert len(list(tmp_path.glob("*.damaged"))) == 2


def test_fewer_steps_than_there_were(tmp_path: pathlib.Path) -> None:
    expected = _trainer(tmp_path / "other", 20).init_and_train_(jr.key(0))
    _trainer(tmp_path / "run", 30, keep=2).init_and_train_(jr.key(0))
    state, data = _trainer(tmp_path / "run", 20).init_and_train(jr.key(0))
    assert same(state, expected) and len(data["metrics"]["failed"]) == 0
    state, data = _trainer(tmp_path / "run", 25).init_and_train(jr.key(0))
    assert int(state.step) == 25 and len(data["metrics"]["failed"]) == 5
    assert 30 in _files(tmp_path / "run"), "newer ones stay where they are"
    state, data = _trainer(tmp_path / "run", 30).init_and_train(jr.key(0))
    assert int(state.step) == 30 and len(data["metrics"]["failed"]) == 0
    with pytest.raises(ValueError, match="popsize: 8 then, 12 now"):
        _trainer(tmp_path / "run", 5, popsize=12).init_and_train_(jr.key(0))
    with pytest.warns(
        RuntimeWarning, match="at step 30 already.* no checkpoint up to step 5"
    ):
        state, data = _trainer(tmp_path / "run", 5).init_and_train(jr.key(0))
    assert int(state.step) == 5 and len(data["metrics"]["failed"]) == 5


def _script(
    folder: pathlib.Path, *lengths: int, key: int = 0, **kws: Any
) -> tuple[Any, list[int]]:
    """A script that calls `train` several times: its result, and what each call did."""
    kws = {"callbacks": (), "popsize": 8, **kws}
    callbacks = (
        rx.Checkpointer(folder / "c", every=20, keep=1),
        rx.Logger(log_file=folder / "log"),
        *kws.pop("callbacks"),
    )
    state, done = None, list[int]()
    for length in lengths:
        trainer = rx.EvosaxTrainer(
            length, "SNES", rastrigin, jnp.ones(3), callbacks=callbacks, **kws
        )
        if state is None:
            state = trainer.initialize(jr.key(key))
        state, data = trainer.train(state, jr.key(key))
        done.append(len(data["metrics"]["failed"]))
    return state, done


def _logged(folder: pathlib.Path) -> list[int]:
    return [json.loads(x)["step"] for x in (folder / "log").read_text().splitlines()]


def test_a_script_of_two_calls_is_run_again(tmp_path: pathlib.Path) -> None:
    expected, done = _script(tmp_path, 50, 50)
    assert done == [50, 50]
    log = (tmp_path / "log").read_bytes()
    for _ in range(2):
        state, done = _script(tmp_path, 50, 50)
        assert same(state, expected) and done == [0, 0]
        assert (tmp_path / "log").read_bytes() == log
    assert _logged(tmp_path) == [*range(1, 101)]
    assert {50, 100} <= set(_files(tmp_path / "c"))
    state, done = _script(tmp_path, 50, 50, 30)
    assert int(state.step) == 130 and done == [0, 0, 30]
    state, done = _script(tmp_path, 50, 80)
    assert int(state.step) == 130 and done == [0, 0]
    state, done = _script(tmp_path, 150)
    assert int(state.step) == 150 and done == [20]
    assert 50 not in _files(tmp_path / "c"), "no call ends there any more"
    whole, _ = _script(tmp_path / "whole", 150)
    assert same(state, whole)
    assert _logged(tmp_path) == [*range(1, 151)]


@pytest.mark.parametrize("fatal", [15, 45, 55, 75, 95])
def test_a_script_that_broke_off(fatal: int, tmp_path: pathlib.Path) -> None:
    class Fail(rx.AbstractObserver):
        def on_chunk(self, steps: Any, selected: Any, state: Any) -> None:
            if steps[-1] > fatal:
                raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError):
        _script(tmp_path, 50, 50, callbacks=(Fail(every=5),))
    state, done = _script(tmp_path, 50, 50)
    assert sum(done) == 100 - fatal
    expected, _ = _script(tmp_path / "other", 100)
    assert same(state, expected)
    assert _logged(tmp_path) == [*range(1, 101)]
    assert (tmp_path / "log").read_text() == (tmp_path / "other" / "log").read_text()


def test_a_state_that_was_changed_between_calls(tmp_path: pathlib.Path) -> None:
    trainer = _trainer(tmp_path, 20)
    state = trainer.initialize(jr.key(0))
    state = trainer.train_(state, jr.key(0))
    changed = eqx.tree_at(lambda s: s.best_flat, state, jnp.full(3, 5.0))
    with pytest.raises(ValueError, match="holds another run.*the state at step 20"):
        trainer.train_(changed, jr.key(0))
    assert int(trainer.train_(state, jr.key(0)).step) == 40


def test_a_longer_stream_goes_on(tmp_path: pathlib.Path) -> None:
    def loss(x: Any, key: Any, data: Any) -> Any:
        return jnp.sum((x - data) ** 2), None

    def train(count: int) -> tuple[int, int]:
        checkpointer = rx.Checkpointer(tmp_path, every=4, keep=1)
        trainer = rx.OptaxTrainer(500, "sgd", _start_at, loss, callbacks=checkpointer)
        batches = iter(jnp.arange(float(count)))
        state, data = trainer.fit_stream(jr.key(0), batches)
        return int(state.step), len(data["metrics"]["loss"])

    assert train(6) == (6, 6)
    assert train(6) == (6, 0)
    assert train(9) == (9, 3)
    assert train(9) == (9, 0)


def test_the_best_one_is_loaded(tmp_path: pathlib.Path) -> None:
    def loss(x: Any, key: Any, data: Any) -> Any:
        return jnp.sum(x**2) * 0 + data, {"n": -data, "pair": jnp.stack([data, data])}

    def train(folder: pathlib.Path, losses: list[float], **kws: Any) -> Any:
        trainer = rx.OptaxTrainer(
            6,
            "sgd",
            _start_at,
            loss,
            callbacks=rx.Checkpointer(folder, every=1, keep=1, **kws),
        )
        trainer.fit_stream(jr.key(0), losses)
        return trainer.initialize(jr.key(0))

    losses = [5.0, 1.0, jnp.nan, 9.0, 3.0, jnp.nan]
    like = train(tmp_path / "a", losses)
    assert int(rx.load_checkpoint(tmp_path / "a", like, which="best").step) == 2
    assert int(rx.load_checkpoint(tmp_path / "a", like).step) == 6
    step = rx.load_checkpoint(tmp_path / "a", like.step, at="state.step", which="best")
    assert int(step) == 2
    train(tmp_path / "b", losses, mode="max")
    assert int(rx.load_checkpoint(tmp_path / "b", like, which="best").step) == 4
    train(tmp_path / "c", losses, metric="eval_data.n")
    assert int(rx.load_checkpoint(tmp_path / "c", like, which="best").step) == 4
    train(tmp_path / "d", [jnp.nan] * 6)
    with pytest.raises(FileNotFoundError, match="has a finite 'loss', by which"):
        rx.load_checkpoint(tmp_path / "d", like, which="best")
    with pytest.raises(ValueError, match="'newest' for one file, but got 'best'"):
        file = tmp_path / "a" / "step_0000000002.ckpt"
        rx.load_checkpoint(file, like, which="best")
    with pytest.raises(ValueError, match="must be one of 'newest', 'best', but got"):
        rx.load_checkpoint(tmp_path / "a", like, which="bset")  # pyright: ignore
    _flipped(tmp_path / "a" / "step_0000000002.ckpt")
    with (
        pytest.warns(RuntimeWarning, match="altered.* The next one is used"),
        pytest.raises(FileNotFoundError, match="finite 'loss'"),
    ):
        rx.load_checkpoint(tmp_path / "a", like, which="best")
    with pytest.raises(ValueError, match="there is no 'los' among the metrics. Clos"):
        train(tmp_path / "e", losses, metric="los")


def test_other_data_are_another_run(tmp_path: pathlib.Path) -> None:
    def fit(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum((x - jnp.mean(data["x"])) ** 2), None

    def train(steps: int, data: Any) -> Any:
        trainer = rx.EvosaxTrainer(
            steps,
            "SNES",
            fit,
            jnp.ones(3),
            callbacks=rx.Checkpointer(tmp_path, every=5),
        )
        if isinstance(data, list):
            return trainer.fit_stream(jr.key(0), data)
        return trainer.init_and_train_(jr.key(0), data)

    train(5, {"x": np.arange(4, dtype=np.float32)})
    train(10, {"x": jnp.arange(4.0)})
    for other in {"x": jnp.arange(4.0) + 1e-6}, {"x": jnp.arange(5.0)}, {"y": 1.0}:
        with pytest.raises(ValueError, match="another run. What differs: data: "):
            train(15, other)
    train(15, [{"x": jnp.arange(4.0)}] * 15)
    train(20, {"x": np.ones(4)}), "the last one was a stream: nobody knows"


def test_the_most_telling_difference_comes_first(tmp_path: pathlib.Path) -> None:
    _trainer(tmp_path, 5).init_and_train_(jr.key(0))
    other = rx.EvosaxTrainer(
        5, "CMA_ES", rastrigin, jnp.ones(4), callbacks=rx.Checkpointer(tmp_path)
    )
    with pytest.raises(ValueError) as refused:
        other.init_and_train_(jr.key(0))
    text = str(refused.value)
    assert "What differs: strategy: 'SNES' then, 'CMA_ES' now; params_like" in text
    assert len(text) - len(str(tmp_path)) < 600 and " more. Choose another" in text


def test_arrays_lie_where_like_lies(tmp_path: pathlib.Path) -> None:
    first, second = jax.devices()[:2]
    mesh = jax.make_mesh((2,), ("x",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    with jax.default_device(second):
        loose = jnp.zeros(4)
    like = {
        "default": jnp.zeros(4),
        "loose": loose,
        "bound": jax.device_put(jnp.zeros(4), second),
        "split": jax.device_put(jnp.zeros(4), split),
        "key": jax.device_put(jr.key(0), second),
        "shape": jax.ShapeDtypeStruct((4,), jnp.float32),
    }
    given = {**like, "shape": jnp.zeros(4)}
    rx.save_params(tmp_path / "file", given)
    loaded: Any = rx.load_params(tmp_path / "file", like)
    for name, before in given.items():
        after = loaded[name]
        assert (after.sharding, after.committed) == (before.sharding, before.committed)
    assert loaded["loose"].devices() == {second} and not loaded["loose"].committed
    assert loaded["default"].devices() == {first}
    assert jax.device_put(loaded["default"], second).devices() == {second}


SAVE = """
import jax, realax as rx
policy = rx.MLPPolicy(4, 2, 8, 1, key=jax.random.key(0))
task = rx.GymnaxTask("CartPole-v1", max_steps=20, normalize_obs=True)
best, state = rx.evolve(policy, task, jax.random.key(1), popsize=4, steps=3,
                        use_scan=False)
rx.save_params("best", best)
rx.save_params("both", {"best": best, "state": state})
output, _ = best(best.stats.mean + 1, None, jax.random.key(0))
print(task(best, jax.random.key(2))[0], *output)
"""


def test_a_normalized_policy_of_another_process(tmp_path: pathlib.Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", SAVE],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    value, *output = map(float, result.stdout.split())
    plain = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(7))
    best: Any = rx.load_params(tmp_path / "best", plain)
    assert isinstance(best, rx.NormalizedPolicy)
    task = rx.GymnaxTask("CartPole-v1", max_steps=20)
    assert float(task(best, jr.key(2))[0]) == value
    found, _ = best(best.stats.mean + 1, None, jr.key(0))
    assert np.allclose(found, output, atol=1e-6)
    again = rx.load_params(tmp_path / "best", best)
    assert same(*(eqx.filter(x, eqx.is_array) for x in (again, best)))
    both: Any = rx.load_params(tmp_path / "both", {"best": plain})
    assert same(*(eqx.filter(x, eqx.is_array) for x in (both["best"], best)))
    small = rx.MLPPolicy(4, 2, 5, 1, key=jr.key(7))
    with pytest.raises(
        rx.MisfitError, match="It holds: NormalizedPolicy of MLPPolicy. 3 of"
    ):
        rx.load_params(tmp_path / "best", small)
    with pytest.raises(rx.MisfitError, match="dict of 'best': Normalized.*: ESState"):
        rx.load_params(tmp_path / "both", plain)
    rx.save_params(tmp_path / "plain", plain)
    with pytest.raises(rx.MisfitError, match="It holds: MLPPolicy"):
        rx.load_params(tmp_path / "plain", best)


def test_a_run_that_never_began_leaves_nothing(tmp_path: pathlib.Path) -> None:
    def broken(x: Any, key: Any, data: Any = None) -> Any:
        raise NameError("a typing error")

    checkpointer = rx.Checkpointer(tmp_path)
    trainer = rx.EvosaxTrainer(5, "SNES", broken, jnp.ones(2), callbacks=checkpointer)
    with pytest.raises(NameError):
        trainer.init_and_train_(jr.key(0))
    assert _files(tmp_path) == []


def test_stopping_may_be_added_and_changed(tmp_path: pathlib.Path) -> None:
    def make(steps: int, *stops: Any) -> Any:
        return rx.EvosaxTrainer(
            steps,
            "SNES",
            rastrigin,
            jnp.ones(3),
            callbacks=(rx.Checkpointer(tmp_path), *stops),
        )

    make(10).init_and_train_(jr.key(0))
    state = make(20, rx.EarlyStopping(target=1e3)).init_and_train_(jr.key(0))
    assert int(state.step) == 11
    state = make(20, rx.EarlyStopping(target=1e3)).init_and_train_(jr.key(0))
    assert int(state.step) == 11
    state = make(20, rx.EarlyStopping(target=-1.0)).init_and_train_(jr.key(0))
    assert int(state.step) == 20


class _Counter(rx.AbstractCounters):
    """A counter of early stopping, as far as a checkpointer looks at it."""

    since: Any
    metric: str = eqx.field(static=True)
    mode: str = eqx.field(static=True)

    @property
    def label(self) -> str:
        return f"{self.metric} {self.mode}"


def _counting(trainer: Any, **counters: int) -> Any:
    """The trainer's first state, with these counters."""
    stopping = tuple(
        _Counter(jnp.asarray(since), *name.split("_"))
        for name, since in counters.items()
    )
    return with_fields(trainer.initialize(jr.key(0)), stopping=stopping)


def _stopping_of(state: Any) -> dict[str, int]:
    return {f"{one.metric}_{one.mode}": int(one.since) for one in state.stopping}


def test_counters_are_restored_by_what_they_count(tmp_path: pathlib.Path) -> None:
    trainer = _trainer(tmp_path, 10)
    (checkpointer,) = trainer.callbacks

    def restored(**counters: int) -> Any:
        state = _counting(trainer, **counters)
        checkpointer.claim()
        state = checkpointer.restore(run_of(trainer, state), state)
        checkpointer.on_end(state, None)
        return state

    state = _counting(trainer)
    checkpointer.claim()
    checkpointer.restore(run_of(trainer, state), state)
    state = with_fields(
        _counting(trainer, loss_min=3, loss_max=4, n_max=5), step=jnp.asarray(5)
    )
    checkpointer.on_chunk(np.arange(5) + 1, np.ones(5), state)
    checkpointer.on_end(state, None)
    assert _stopping_of(rx.load_checkpoint(tmp_path, state)) == _stopping_of(state)
    again = restored(loss_min=0, loss_max=0, n_max=0)
    assert int(again.step) == 5 and _stopping_of(again) == _stopping_of(state)
    again = restored(n_max=0, new_max=0, loss_min=0)
    assert int(again.step) == 5
    assert _stopping_of(again) == {"n_max": 5, "new_max": 0, "loss_min": 3}
    assert restored().stopping == ()
    twice = _counting(trainer, loss_min=0)
    twice = with_fields(twice, stopping=twice.stopping * 2)
    checkpointer.claim()
    twice = checkpointer.restore(run_of(trainer, twice), twice)
    checkpointer.on_end(twice, None)
    assert [int(one.since) for one in twice.stopping] == [3, 0]


def test_a_run_of_two_devices_goes_on_with_one(tmp_path: pathlib.Path) -> None:
    whole = _trainer(tmp_path / "whole", 20).init_and_train_(jr.key(0))
    folder = tmp_path / "run"
    _trainer(folder, 10, n_devices=2).init_and_train_(jr.key(0))
    with pytest.warns(RuntimeWarning, match="n_devices: 2 then, 1 now"):
        state, data = _trainer(folder, 20).init_and_train(jr.key(0))
    assert len(data["metrics"]["failed"]) == 10
    assert close(state, whole)


def test_lanes_may_change(tmp_path: pathlib.Path) -> None:
    def train(steps: int, **kws: int) -> Any:
        trainer = rx.EvosaxTrainer(
            steps,
            "SNES",
            rx.GymnaxTask("CartPole-v1", max_steps=10, **kws),
            rx.MLPPolicy(4, 2, 4, 1, key=jr.key(0)),
            popsize=4,
            callbacks=rx.Checkpointer(tmp_path),
        )
        return trainer.init_and_train(jr.key(0))[1]["metrics"]["failed"]

    assert len(train(2, lanes=2, chunk=4)) == 2
    with pytest.warns(RuntimeWarning, match=r"lanes: 2 then.*task\.chunk: 4 then"):
        assert len(train(3, lanes=0)) == 1


def test_one_at_a_time(tmp_path: pathlib.Path) -> None:
    checkpointer = rx.Checkpointer(tmp_path / "c")
    logger = rx.Logger(log_file=tmp_path / "log")

    class Nested(rx.AbstractObserver):
        inner: Any = eqx.field(kw_only=True)

        def on_chunk(self, steps: Any, selected: Any, state: Any) -> None:
            trainer = rx.EvosaxTrainer(
                2, "SNES", rastrigin, jnp.ones(3), callbacks=self.inner
            )
            trainer.init_and_train_(jr.key(0))

    for observer in (checkpointer, logger):
        trainer = rx.EvosaxTrainer(
            5,
            "SNES",
            rastrigin,
            jnp.ones(3),
            callbacks=(observer, Nested(inner=observer)),
        )
        with pytest.raises(RuntimeError, match="watches another run at the moment"):
            trainer.init_and_train_(jr.key(0))


def test_wrong_arguments(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="`every` of `Checkpointer` must be.*got 0"):
        rx.Checkpointer(tmp_path, every=0)
    with pytest.raises(ValueError, match="`keep` of `Checkpointer` must be.*got 0"):
        rx.Checkpointer(tmp_path, keep=0)
    with pytest.raises(TypeError, match="`every` of `Checkpointer`.*got None"):
        rx.Checkpointer(tmp_path, every=None)  # pyright: ignore
    with pytest.raises(TypeError, match="`folder` of `Checkpointer` must be a path"):
        rx.Checkpointer(3)  # pyright: ignore
    with pytest.raises(ValueError, match="`mode` of `Checkpointer` must be one of"):
        rx.Checkpointer(tmp_path, mode="mx")  # pyright: ignore
    with pytest.raises(TypeError, match="no argument `evry`. Closest: 'every'"):
        rx.Checkpointer(tmp_path, evry=3)  # pyright: ignore
    checkpointer = rx.Checkpointer(tmp_path, every=np.int64(7), keep=2.0)  # pyright: ignore
    assert (checkpointer.every, checkpointer.keep) == (7, 2)
    assert rx.AbstractObserver(every=np.int32(3)).every == 3  # pyright: ignore
    assert rx.ProgressBar(every=4.0).every == 4  # pyright: ignore
    with pytest.raises(ValueError, match="`every` must be a whole number.*got 0"):
        rx.AbstractObserver(every=0)
    with pytest.raises(TypeError, match="`every` must be a whole number.*got 'ten'"):
        rx.AbstractObserver(every="ten")  # pyright: ignore
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        _trainer(tmp_path / "file" / "folder", 5).init_and_train_(jr.key(0))


def _start(folder: pathlib.Path, steps: int, more: str = "") -> Any:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.worker", str(folder), str(steps), more],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _rows(folder: pathlib.Path) -> int:
    log = folder / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def _wait_for_a_chunk(process: Any, folder: pathlib.Path) -> None:
    """Until it trains: what happens while it compiles proves nothing."""
    before, until = _rows(folder), time.monotonic() + 120
    # A restored run first drops rows, then adds some.
    while process.poll() is None and time.monotonic() < until:
        now = _rows(folder)
        if now > before:
            return
        before = min(before, now)
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "codes"),
    [(signal.SIGTERM, {143, -15}), (signal.SIGINT, {130, -2, 1})],
)
def test_signals_save_and_end(
    number: Any, codes: set[int], tmp_path: pathlib.Path
) -> None:
    process = _start(tmp_path, 10**9)
    _wait_for_a_chunk(process, tmp_path)
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in codes, errors
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])["step"]
    assert len(lines) == last == _files(tmp_path / "checkpoints")[-1]


def _undisturbed(folder: pathlib.Path, steps: int) -> Any:
    process = _start(folder, steps)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert output == f"done at {steps}\n"
    return folder / "final", folder / "log.jsonl"


@pytest.mark.slow
def test_a_job_submitted_twice(tmp_path: pathlib.Path) -> None:
    first = _start(tmp_path, 10**9)
    _wait_for_a_chunk(first, tmp_path)
    second = _start(tmp_path, 10**9)
    _, errors = second.communicate(timeout=120)
    assert second.returncode == 1
    owner = f"process {first.pid} on host {socket.gethostname()}"
    folder = tmp_path / "checkpoints"
    wanted = f"RuntimeError: the folder of checkpoints {folder} belongs to a run "
    assert f"{wanted}that is in progress: {owner}. Wait until" in errors
    assert first.poll() is None, "the first one did not notice"
    leftover = folder / ".step_0000000010.ckpt.0123456789abcdef.tmp"
    leftover.write_text("half a file")
    first.kill()
    first.communicate()
    third = _start(tmp_path, 10**9)
    _wait_for_a_chunk(third, tmp_path)
    assert json.loads((folder / ".checkpoints.owner").read_text())["process"] != (
        first.pid
    )
    third.send_signal(signal.SIGTERM)
    third.communicate(timeout=60)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [*range(1, len(lines) + 1)]
    assert not leftover.exists()
    assert not list(tmp_path.rglob(".*.owner")), "all is free again"


def test_two_in_one_process(tmp_path: pathlib.Path) -> None:
    owner = f"process {os.getpid()} on host"
    held = _lock.claim(tmp_path, "checkpoints", "the folder", "folder")
    with pytest.raises(RuntimeError, match=f"{tmp_path} belongs to.*{owner}.*`folder`"):
        _trainer(tmp_path, 5).init_and_train_(jr.key(0))
    held.release()
    _trainer(tmp_path, 5).init_and_train_(jr.key(0))
    held = _lock.claim(tmp_path, "checkpoints", "the folder", "folder")
    (tmp_path / ".checkpoints.owner").write_text('{"proc')
    with pytest.raises(
        RuntimeError, match="another process, whose number is not known"
    ):
        _lock.claim(tmp_path, "checkpoints", "it", "folder")
    held.release()


@pytest.mark.parametrize("method", ["init_and_train", "init_and_train_", "fit_stream"])
@pytest.mark.parametrize("which", ["folder", "log"])
def test_nothing_is_computed_for_a_refused_run(
    method: str, which: str, tmp_path: pathlib.Path
) -> None:
    """A first population may take hours to evaluate."""
    traced = list[str]()

    def task(x: Any, key: Any, data: Any = None) -> Any:
        traced.append("task")
        raise ArithmeticError("a first population")

    observers = rx.Checkpointer(tmp_path), rx.Logger(log_file=tmp_path / "log")
    trainer = rx.EvosaxTrainer(
        2, "SimpleGA", task, jnp.ones(2), popsize=4, callbacks=observers
    )
    batches = iter([jnp.ones(1)] * 3)
    given = (batches,) if method == "fit_stream" else ()
    names = {"folder": "checkpoints", "log": "log"}
    held = _lock.claim(tmp_path, names[which], "it", "folder")
    with pytest.raises(RuntimeError, match="belongs to a run that is in progress"):
        getattr(trainer, method)(jr.key(0), *given)
    assert not traced and len(list(batches)) == 3
    held.release()
    given = ([jnp.ones(1)],) if method == "fit_stream" else ()
    for _ in range(2):  # a failure frees the folder and the log
        with pytest.raises(ArithmeticError):
            getattr(trainer, method)(jr.key(0), *given)
    assert not list(tmp_path.glob(".*.owner"))


def test_a_file_system_without_locks(tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    fcntl = pytest.importorskip("fcntl")

    def fail(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    expected = _trainer(tmp_path / "other", 5).init_and_train_(jr.key(0))
    leftover = tmp_path / "run" / ".step_0000000010.ckpt.0123456789abcdef.tmp"
    leftover.parent.mkdir()
    leftover.write_text("of a process that lives, perhaps")
    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.warns(RuntimeWarning, match="cannot be locked.*No locks") as warned:
        state = _trainer(tmp_path / "run", 5).init_and_train_(jr.key(0))
    assert len(warned) == 1 and same(state, expected)
    assert leftover.exists()


def test_no_process_is_probed(tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    def fail(*args: Any) -> None:
        raise AssertionError("on Windows this is Ctrl-C")

    monkeypatch.setattr(os, "kill", fail)
    leftover = tmp_path / ".step_0000000010.ckpt.0123456789abcdef.tmp"
    leftover.write_text("half a file")
    _trainer(tmp_path, 5).init_and_train_(jr.key(0))
    assert not leftover.exists()


@pytest.mark.slow
def test_kills_change_nothing(tmp_path: pathlib.Path) -> None:
    """Killed at random moments and started again, a run ends as it would have.

    `benchmarks/faults.py` does so for as long as one likes.
    """
    steps, generator = 40_000, random.Random(0)
    final, log = _undisturbed(tmp_path / "a", steps)
    for _ in range(4):
        process = _start(tmp_path / "b", steps)
        _wait_for_a_chunk(process, tmp_path / "b")
        time.sleep(generator.uniform(0, 0.3))
        assert process.poll() is None, "it ended before the last kill"
        process.kill()
        process.communicate()
    assert 0 < _rows(tmp_path / "b") < steps
    final_b, log_b = _undisturbed(tmp_path / "b", steps)
    assert final_b.read_bytes() == final.read_bytes()
    assert log_b.read_bytes() == log.read_bytes()


@pytest.mark.slow
def test_kills_inside_a_save(tmp_path: pathlib.Path) -> None:
    code = (
        "import sys, numpy as np, realax as rx\n"
        "x = np.ones(10_000_000, np.float32)\n"
        "for i in range(10**6):\n"
        f"    rx.save_params({str(tmp_path / 'file')!r}, {{'x': x * i}})\n"
        "    print(i, flush=True)\n"
    )
    generator = random.Random(1)
    kills = unfinished = 0
    while kills < 4 or unfinished == 0:
        kills += 1
        assert kills <= 20, "no kill hit a save"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(generator.uniform(0, 0.2))
        process.kill()
        process.communicate()
        unfinished += len(list(tmp_path.glob(".file.*")))
        for path in tmp_path.glob(".file.*"):
            path.unlink()
        loaded = rx.load_params(
            tmp_path / "file", {"x": np.ones(10_000_000, np.float32)}
        )
        assert len(np.unique(loaded["x"])) == 1


@pytest.mark.parametrize("what", ["checkpoint", "log"])
def test_no_room(what: str, tmp_path: pathlib.Path) -> None:
    """A limit on the size of files is met as a full disk is."""
    if what == "checkpoint":
        process = _start(tmp_path, 10**9, "file_size=4000, every=10")
    else:
        process = _start(tmp_path, 10**9, "file_size=300_000")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    if what == "log":
        assert "the log could not be written (File too large)" in errors
        # What was saved last is not further than the log.
        step = _files(tmp_path / "checkpoints")[-1]
        lines = (tmp_path / "log.jsonl").read_text().splitlines()
        assert step > 500 and len(lines) >= step
        assert json.loads(lines[step - 1])["step"] == step
    else:
        assert "could not be written (File too large)" in errors
        assert "Make room, or choose another" in errors
    assert not list(tmp_path.rglob(".*ckpt*")), "half a file was left"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_to_read_only(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    with pytest.raises(OSError, match="could not be written"):
        _trainer(folder, 20).init_and_train_(jr.key(0))


def test_an_evaluated_start_in_another_environment(
    tmp_path: pathlib.Path, monkeypatch: Any
) -> None:
    """The bits of an evaluated first population may depend on the environment."""

    def train(steps: int) -> Any:
        checkpointer = rx.Checkpointer(tmp_path)
        trainer = rx.EvosaxTrainer(
            steps, "SimpleGA", rastrigin, jnp.ones(2), popsize=4, callbacks=checkpointer
        )
        state = trainer.initialize(jr.key(0))
        other = state.best_fitness * (1 + steps * 1e-6)
        state = with_fields(state, best_fitness=other)
        return trainer.train_(state, jr.key(1))

    train(3)
    with pytest.raises(ValueError, match="the state at step 0"):
        train(100)
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    with pytest.warns(RuntimeWarning, match="XLA_FLAGS"):
        assert int(train(100).step) == 100
