"""Runs that tests start on two processes, and compare with those of one process.

`main` is process `NUMBER` of two, with the arguments `NUMBER PORT FOLDER CASES [MORE]`.
`MORE` are Python keywords of `initialize_hosts`, the `devices` of each, and
the `steps` of a long run. `CASES`
are names of the functions below, with commas between them. What each returns goes to
`FOLDER/<case>.<number>`, or its error to `FOLDER/<case>.<number>.txt`. The error of the
last one ends the process.
"""

import contextlib
import pathlib
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
from jax._src import compiler, distributed

import realax as rx
from realax.training._pace import Pace

from .conftest import SETTINGS
from .helpers import rastrigin


def noisy(x: Any, key: Any, data: Any = None) -> Any:
    """A bumpy bowl with noise, so that keys matter."""
    noise = 0.1 * jr.normal(key)
    value = jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10) + noise
    return value, {"descriptor": x[:2]}


def evolution(steps: int, **kws: Any) -> rx.EvosaxTrainer[Any]:
    """A trainer over two devices."""
    given: dict[str, Any] = {"strategy": "CMA_ES", "task": noisy, "popsize": 8}
    given |= {"params_like": jnp.ones(4), "n_devices": 2}
    return rx.EvosaxTrainer(steps, **{**given, **kws})


def unwatched(folder: pathlib.Path) -> Any:
    return evolution(20).init_and_train(jr.key(0))


def first_population(folder: pathlib.Path) -> Any:
    """Its `initialize` evaluates too."""
    return evolution(5, strategy="SimpleGA").init_and_train(jr.key(0))


def continued(folder: pathlib.Path) -> Any:
    """A state of one call goes into the next, and into the user's own code."""
    trainer = evolution(10)
    state, _ = trainer.init_and_train(jr.key(0))
    state, record = trainer.train(state, jr.key(1))
    value, _ = trainer.task(trainer.params(state), jr.key(2))
    return state, record, value, jnp.mean(record["metrics"]["fitness"])


def observed(folder: pathlib.Path) -> Any:
    """Every observer, each of which writes once."""
    callbacks = (
        rx.Checkpointer(folder / "checkpoints", every=7),
        rx.Logger(log_file=folder / "log.jsonl"),
        rx.Evaluator(every=5, episodes=3, file=folder / "best"),
        rx.ProgressBar(),
    )
    return evolution(20, callbacks=callbacks).init_and_train(jr.key(0))


def longer(folder: pathlib.Path) -> Any:
    """Goes on from the checkpoints of `observed`."""
    callbacks = rx.Checkpointer(folder / "checkpoints", every=7)
    return evolution(30, callbacks=callbacks).init_and_train(jr.key(0))


def apart(folder: pathlib.Path) -> Any:
    """Process 1 is in a folder of its own, without the files of process 0."""
    own = folder / f"own.{jax.process_index()}"
    own.mkdir()
    with contextlib.chdir(own):
        for steps in (10, 20):
            callbacks = rx.Checkpointer("run", every=5), rx.Logger(log_file="log.jsonl")
            trainer = evolution(steps, callbacks=callbacks)
            result = trainer.init_and_train(jr.key(0))
    return result


def stopped(folder: pathlib.Path) -> Any:
    rule = rx.EarlyStopping(patience=3)
    return evolution(40, callbacks=rule).init_and_train(jr.key(0))


def slow(folder: pathlib.Path) -> Any:
    """One process is slow, by whose clock the chunks would be shorter."""
    lengths = list[int]()
    start, stop = Pace.start, Pace.stop

    def started(self: Pace, done: int, most: int) -> int:
        lengths.append(start(self, done, most))
        return lengths[-1]

    def stopped(self: Pace, steps: int) -> None:
        time.sleep(0.3 * jax.process_index())
        stop(self, steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pace, "start", started)
        patch.setattr(Pace, "stop", stopped)
        result = evolution(60, callbacks=rx.ProgressBar()).init_and_train(jr.key(0))
    (folder / f"lengths.{jax.process_index()}").write_text(str(lengths))
    return result


def lanes(folder: pathlib.Path) -> Any:
    inner = rx.EvosaxTrainer(1, "SNES", noisy, jnp.ones(3), popsize=8)
    callbacks = (
        rx.Checkpointer(folder / "lanes", every=5),
        rx.Logger(log_file=folder / "lanes.jsonl"),
        rx.EarlyStopping(patience=4),
    )
    trainer = rx.Replicated(inner, 4, train_steps=12, n_devices=2, callbacks=callbacks)
    return trainer.init_and_train(jr.key(0))


def gradient_lanes(folder: pathlib.Path) -> Any:
    inner = rx.OptaxTrainer(1, "adam", lambda key: jr.normal(key, (3,)), noisy, 0.1)
    trainer = rx.Replicated(inner, 4, train_steps=12, n_devices=2)
    return trainer.init_and_train(jr.key(0))


def diversity(folder: pathlib.Path) -> Any:
    trainer = rx.QDTrainer(
        12,
        noisy,
        jnp.ones(4),
        archive=rx.GridArchive((4, 5), -6.0, 6.0),
        popsize=12,
        n_devices=2,
        callbacks=rx.Checkpointer(folder / "diversity", every=5),
    )
    return trainer.init_and_train(jr.key(0))


def normalized(folder: pathlib.Path) -> Any:
    task = rx.GymnaxTask("CartPole-v1", max_steps=20, normalize_obs=True)
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    trainer = evolution(5, strategy="Open_ES", task=task, params_like=policy)
    state, record = trainer.init_and_train(jr.key(0))
    return state, record, trainer.params(state)


def learner(folder: pathlib.Path) -> Any:
    trainer = rx.PPO(
        "CartPole-v1", total_timesteps=256, num_envs=8, num_steps=8, n_devices=2
    )
    return trainer.init_and_train(jr.key(0))


def with_data(folder: pathlib.Path) -> Any:
    def task(x: Any, key: Any, data: Any = None) -> Any:
        inputs, outputs = data
        return jnp.mean((inputs @ x - outputs) ** 2), None

    data = jr.normal(jr.key(3), (12, 4)), jr.normal(jr.key(4), (12,))
    batches = rx.Minibatch(task, 4)
    return evolution(10, task=batches).init_and_train(jr.key(0), data)


def messages(folder: pathlib.Path) -> Any:
    """The number of collectives in the program of a run, one a generation."""
    trainer = evolution(5, strategy="Open_ES", task=rastrigin)
    state, key = trainer.placed((trainer.initialize(jr.key(0)), jr.key(1)))
    run = jax.jit(lambda state, key: trainer.train(state, key))
    text = run.lower(state, key).compile().as_text()
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    return jnp.asarray(len(re.findall(rf"\b({kinds})(?:-start)?\(", text)))


def global_data(folder: pathlib.Path) -> Any:
    """Data that are divided among the processes are gathered."""
    from realax.training._devices import put_divided

    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum((x - data) ** 2), None

    data = put_divided(jnp.arange(4.0), 2)
    return evolution(5, task=task).init_and_train(jr.key(0), data)


def other_class(folder: pathlib.Path) -> Any:
    if jax.process_index() == 1:
        return rx.OptaxTrainer(3, "adam", lambda key: jnp.ones(3), noisy)(jr.key(0))
    return evolution(3).init_and_train(jr.key(0))


def other_key(folder: pathlib.Path) -> Any:
    return evolution(5).init_and_train(jr.key(jax.process_index()))


def other_params(folder: pathlib.Path) -> Any:
    start = jnp.ones(4) + jax.process_index()
    return evolution(5, params_like=start).init_and_train(jr.key(0))


def other_popsize(folder: pathlib.Path) -> Any:
    return evolution(5, popsize=8 + 2 * jax.process_index()).init_and_train(jr.key(0))


def other_task(folder: pathlib.Path) -> Any:
    scale = 1.0 + jax.process_index()
    task = lambda x, key, data=None: (scale * jnp.sum(x**2), None)
    return evolution(5, task=task).init_and_train(jr.key(0))


def other_steps(folder: pathlib.Path) -> Any:
    return evolution(5 + jax.process_index()).init_and_train(jr.key(0))


def other_data(folder: pathlib.Path) -> Any:
    data = jnp.ones(3) * jax.process_index()
    return evolution(5).init_and_train(jr.key(0), data)


def other_version(folder: pathlib.Path) -> Any:
    from realax._storage import _fingerprint

    found = _fingerprint.importlib.metadata.version

    def version(name: str) -> str:
        return "0.0.1" if name == "optax" and jax.process_index() else found(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fingerprint.importlib.metadata, "version", version)
        return evolution(5).init_and_train(jr.key(0))


def other_callbacks(folder: pathlib.Path) -> Any:
    every = 3 + jax.process_index()
    callbacks = rx.Checkpointer(folder / "other", every=every)
    return evolution(5, callbacks=callbacks).init_and_train(jr.key(0))


def idle_devices(folder: pathlib.Path) -> Any:
    """Each process does the same, and only the first writes."""
    callbacks = rx.Logger(log_file=folder / "idle.jsonl")
    return evolution(8, n_devices=1, callbacks=callbacks).init_and_train(jr.key(0))


def no_devices(folder: pathlib.Path) -> Any:
    return rx.OptaxTrainer(3, "adam", lambda key: jnp.ones(3), noisy, 0.1)(jr.key(0))


def four(folder: pathlib.Path) -> Any:
    """All devices, of which each process has two."""
    return evolution(20, n_devices=jax.device_count()).init_and_train(jr.key(0))


def stream(folder: pathlib.Path) -> Any:
    return evolution(3).fit_stream(jr.key(0), [jnp.ones(2)] * 3)


def on_host(folder: pathlib.Path) -> Any:
    task = rx.HostTask(lambda params, seed, data=None: (0.0, None))
    return evolution(3, task=task, n_devices=1).init_and_train(jr.key(0))


class Raises(rx.AbstractObserver):
    """Raises an error at a step."""

    def on_chunk(self, steps: Any, selected: Any, state: Any) -> None:
        if steps[-1] >= 5:
            raise OSError("the disk is full")


def raises(folder: pathlib.Path) -> Any:
    callbacks = (rx.Checkpointer(folder / "raises", every=100), Raises(every=5))
    return evolution(20, callbacks=callbacks).init_and_train(jr.key(0))


def other_run_in_folder(folder: pathlib.Path) -> Any:
    """`restore` raises on process 0, before the first step."""
    callbacks = rx.Checkpointer(folder / "checkpoints", every=7)
    return evolution(20, callbacks=callbacks).init_and_train(jr.key(9))


LONG = 1500


def long(folder: pathlib.Path) -> Any:
    """Several seconds, in which signals can be sent to it."""
    callbacks = (
        rx.Checkpointer(folder / "long", every=50),
        rx.Logger(log_file=folder / "long.jsonl"),
        rx.EarlyStopping(target=-1e9),
    )
    return evolution(LONG, callbacks=callbacks).init_and_train_(jr.key(0))


def with_table(params: Any, key: Any, data: Any = None) -> Any:
    return noisy(params[0], key)


def heavy(folder: pathlib.Path) -> Any:
    """As `long`, with checkpoints of 4 MB."""
    callbacks = (
        rx.Checkpointer(folder / "long", every=50),
        rx.Logger(log_file=folder / "long.jsonl"),
    )
    start = jnp.ones(4), jnp.arange(1_000_000)
    trainer = evolution(LONG, task=with_table, params_like=start, callbacks=callbacks)
    return trainer.init_and_train_(jr.key(0))


class Sleeps(rx.AbstractObserver):
    """Stands still on process 0, whose observers are called."""

    folder: pathlib.Path = eqx.field(static=True)

    def on_chunk(self, steps: Any, selected: Any, state: Any) -> None:
        (self.folder / "asleep").touch()
        time.sleep(1000)


def slow_observer(folder: pathlib.Path) -> Any:
    """An observer on process 0 takes longer than the patience of a process."""
    callbacks = (rx.Checkpointer(folder / "run", every=100), Naps(folder, every=2))
    return evolution(20, callbacks=callbacks).init_and_train(jr.key(0))


class Naps(rx.AbstractObserver):
    """Takes a while, once."""

    folder: pathlib.Path = eqx.field(static=True)

    def on_chunk(self, steps: Any, selected: Any, state: Any) -> None:
        if steps[-1] == 4:
            (self.folder / "asleep").touch()
            time.sleep(8)


def stands_still(folder: pathlib.Path) -> Any:
    """Process 1 stands still between two chunks."""
    stop = Pace.stop

    def stopped(self: Pace, steps: int) -> None:
        stop(self, steps)
        if jax.process_index() == 1:
            (folder / "asleep").touch()
            time.sleep(1000)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pace, "stop", stopped)
        callbacks = rx.Checkpointer(folder / "run", every=100)
        return evolution(20, callbacks=callbacks).init_and_train(jr.key(0))


def sleeps(folder: pathlib.Path) -> Any:
    callbacks = (rx.Checkpointer(folder / "sleeps", every=2), Sleeps(folder, every=2))
    return evolution(20, callbacks=callbacks).init_and_train(jr.key(0))


def bare(folder: pathlib.Path) -> Any:
    """No observer, and one program for all steps, after a short run of both."""
    evolution(3).init_and_train_(jr.key(1))
    (folder / f"begun.{jax.process_index()}").touch()
    return evolution(10_000_000).init_and_train_(jr.key(0))


def keep_programs() -> None:
    """Let each process write its programs into the cache on disk.

    jax lets only process 0 write, because its programs are usually those of all. On CPU
    the others look for programs of their own, and would compile them in each test.
    """
    write, own = compiler._cache_write, distributed.global_state
    lock = threading.Lock()

    def write_as_first(*args: Any) -> None:
        with lock:
            number, own.process_id = own.process_id, 0
            try:
                write(*args)
            finally:
                own.process_id = number

    compiler._cache_write = write_as_first


def main() -> None:
    global LONG
    signal.signal(signal.SIGINT, signal.default_int_handler)
    number, port, folder = int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
    for name, value in SETTINGS.items():
        jax.config.update(name, value)
    jax.config.update("jax_disable_most_optimizations", False)
    kws = eval(f"dict({sys.argv[5] if len(sys.argv) > 5 else ''})")
    jax.config.update("jax_num_cpu_devices", kws.pop("devices", 1))
    LONG = kws.pop("steps", LONG)
    rx.initialize_hosts(f"localhost:{port}", 2, number, **kws)
    keep_programs()
    cases = sys.argv[4].split(",")
    for case in cases:
        run: Callable[[pathlib.Path], Any] = globals()[case]
        begin, file = time.perf_counter(), folder / f"{case}.{number}"
        try:
            rx.save_params(file, run(folder))
        except Exception as error:
            lines = traceback.format_exc(), f"{type(error).__name__}: {error}"
            file.with_suffix(f".{number}.txt").write_text("\n".join(lines))
            if case == cases[-1]:
                raise
        print(case, f"{time.perf_counter() - begin:.2f} s", flush=True)
