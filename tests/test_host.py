"""Tasks on the host: any Python function, workers of all kinds, and what goes wrong."""

import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx
from realax._compile import _programs

from .helpers import ROOT, environment, python


POP = jnp.arange(8.0)[:, None]
KEYS = jr.split(jr.key(0), (8, 1))


def noisy(params: Any, seed: int, data: Any = None) -> Any:
    noise = np.random.default_rng(seed).normal()
    return np.sum((params["gains"] - 1) ** 2) + 0.1 * noise, {"seed": seed % 1000}


def evolved(task: Any, steps: int = 4, **kws: Any) -> Any:
    kws = {"strategy": "CMA_ES", "popsize": 6, "eval_reps": 2, **kws}
    return rx.evolve({"gains": jnp.zeros(3)}, task, jr.key(0), steps=steps, **kws)


def same(one: Any, other: Any) -> bool:
    equal = lambda a, b: np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
    return jax.tree.all(jax.tree.map(equal, one, other))


def misbehaving(params: Any, seed: int, data: Any = None) -> Any:
    """Do what `data` says for the individual 5."""
    if params[0] == 5 and data is not None:
        match data["what"]:
            case "raises":
                raise _Own("no")
            case "exits":
                sys.exit(3)
            case "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "crashes":
                ctypes.string_at(0)
            case "hangs":
                while True:
                    pass
            case "hangs outside of Python":
                ctypes.PyDLL(None).sleep(1000)
            case "is odd":
                if not os.path.exists(data["file"]):
                    pathlib.Path(data["file"]).touch()
                    os.kill(os.getpid(), signal.SIGKILL)
    return float(params[0]) + seed / 2**31, {"process": os.getpid()}


class _Own(Exception):
    pass


def ready_at_once(params: Any, seed: int, data: Any = None) -> Any:
    """Return 1 if a program of some 100 ms was computed in the call, else 0."""
    body = lambda _, x: jnp.sin(x + 1)
    program = jax.jit(lambda x: jax.lax.fori_loop(0, 1000, body, x))
    jax.block_until_ready(program(jnp.zeros(10_000)))
    return float(program(jnp.ones(10_000)).is_ready()), None


@pytest.fixture(scope="module")
def processes() -> Generator[Any]:
    """A task with two processes, which all tests of faults share."""
    with rx.HostTask(
        misbehaving, workers=2, timeout=1.5, retries=0, errors="nan"
    ) as task:
        task.evaluate(POP, KEYS)
        yield task


# What a function gets, and what becomes of its result.


def test_arguments_of_the_function() -> None:
    seen: list[Any] = []

    def look(params: Any, seed: int, data: Any = None) -> Any:
        params["w"] += 1  # a copy of its own
        seen.append((params, seed, data))
        return 0.0, None

    task = rx.HostTask(look)
    population = {"w": jnp.zeros((2, 3)), "name": "a model"}
    keys = jr.split(jr.key(3), (2, 2))
    task.evaluate(population, keys, {"x": jnp.arange(3)})
    assert [type(params["w"]) for params, _, _ in seen] == [np.ndarray] * 4
    assert all((params["w"] == 1).all() for params, _, _ in seen)
    assert all(params["name"] == "a model" for params, _, _ in seen)
    expected = np.asarray(jr.key_data(keys))[..., -1].ravel() & 0x7FFFFFFF
    assert [seed for _, seed, _ in seen] == expected.tolist()
    assert all(type(seed) is int for _, seed, _ in seen)
    assert all(type(data["x"]) is np.ndarray for _, _, data in seen)
    assert task({"w": jnp.zeros(3), "name": "a model"}, jr.key(7)) == (0.0, None)
    assert seen[-1][1] == 7


def test_a_run_is_the_users_own_loop() -> None:
    """Against `ask` and `tell` by hand, and plain numpy between them."""
    task = rx.HostTask(noisy)
    trainer = rx.EvosaxTrainer(
        4, "CMA_ES", task, {"gains": jnp.zeros(3)}, popsize=6, eval_reps=2
    )
    state, data = trainer.init_and_train(jr.key(0))
    init_key, run_key = jr.split(jr.key(0))
    mine = trainer.initialize(init_key)
    for step in range(4):
        asked = trainer.ask(mine, jr.fold_in(run_key, step))
        seeds = np.asarray(jr.key_data(asked.keys))[..., -1] & 0x7FFFFFFF
        values = [
            [np.sum((row - 1) ** 2) + 0.1 * np.random.default_rng(s).normal()]
            for row, pair in zip(np.asarray(asked.population), seeds, strict=True)
            for s in pair
        ]
        results = rx.tasks.Evaluation(jnp.asarray(values, jnp.float32).reshape(6, 2))
        mine, metrics = trainer.tell(mine, asked, results)
        assert jnp.allclose(metrics["fitness"], data["metrics"]["fitness"][step], 1e-5)
    assert jnp.allclose(trainer.params(mine)["gains"], trainer.params(state)["gains"])
    assert data["metrics"]["eval_data"]["seed"].shape == (4, 6, 2)


@pytest.mark.parametrize("strategy", ["Open_ES", "SimpleGA", "PSO"])
def test_a_run_equals_the_compiled_one(strategy: str) -> None:
    def host(params: Any, seed: int, data: Any = None) -> Any:
        return np.sum((params["gains"] - data) ** 2), None

    def traced(params: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum((params["gains"] - data) ** 2), None

    runs = [
        evolved(task, strategy=strategy, data=jnp.full(3, 0.5))
        for task in (rx.HostTask(host), traced)
    ]
    (_, _, one), (_, _, other) = runs
    fitness = one["metrics"]["fitness"], other["metrics"]["fitness"]
    assert jnp.allclose(*fitness, rtol=1e-4, atol=1e-5)


def test_quality_diversity() -> None:
    def host(params: Any, seed: int, data: Any = None) -> Any:
        return np.sum(params**2), {"descriptor": params[:2], "third": params[2]}

    def traced(params: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(params**2), {"descriptor": params[:2], "third": params[2]}

    archive = rx.GridArchive((5, 5), -1.0, 1.0)
    states = [
        rx.QDTrainer(
            3, task, jnp.zeros(3), archive=archive, popsize=10, keep="third"
        ).init_and_train(jr.key(0))[0]
        for task in (rx.HostTask(host), traced)
    ]
    one, other = (state.archive for state in states)
    assert jnp.array_equal(one.filled, other.filled) and one.filled.sum() > 5
    assert jnp.allclose(one.params, other.params, atol=1e-6)


def test_results_do_not_depend_on_workers(tmp_path: pathlib.Path) -> None:
    _, state, data = evolved(rx.HostTask(noisy))
    for kws in (
        {"workers": 2},
        {"workers": 3, "backend": "threads"},
        {"workers": 1, "backend": "threads", "timeout": 60},
    ):
        with rx.HostTask(noisy, **kws) as task:  # pyright: ignore
            _, again, record = evolved(task)
            assert same(record, data) and same(again.mean, state.mean), kws


@pytest.mark.slow
def test_ray() -> None:
    """In a process of its own, because Ray changes the one that it is used in."""
    # Beside two processes that compile, two seconds were too few for good jobs once.
    code = (
        "import jax.random as jr, ray, realax as rx\n"
        "from tests.test_host import *\n"
        "_, _, data = evolved(rx.HostTask(noisy))\n"
        "task = rx.HostTask(noisy, workers=2, backend='ray')\n"
        "_, _, again = evolved(task)\n"
        "assert same(again, data)\n"
        "task = rx.HostTask(misbehaving, workers=2, backend='ray', retries=0,"
        " errors='nan', timeout=4.0)\n"
        "warnings.simplefilter('ignore')\n"
        "with task:\n"
        "    for what in 'is killed', 'hangs', 'raises':\n"
        "        values, _ = task.evaluate(POP, KEYS, {'what': what})\n"
        "        lost = [i == 5 for i in range(8)]\n"
        "        assert np.isnan(values).ravel().tolist() == lost\n"
        "task = rx.HostTask(ready_at_once, workers=1, backend='ray')\n"
        "assert task.evaluate(POP[:1], KEYS[:1])[0] == 1\n"
        "print('fine')\n"
    )
    result = python("-c", code, timeout=240)
    assert result.stdout.endswith("fine\n"), result.stderr


def test_observers_and_rules(tmp_path: pathlib.Path) -> None:
    task = rx.HostTask(noisy)
    evaluator = rx.Evaluator(every=2, episodes=3)
    log = tmp_path / "log.jsonl"
    callbacks = (evaluator, rx.Logger(log_file=log), rx.EarlyStopping(patience=3))
    _, state, data = evolved(task, 40, callbacks=callbacks)
    assert int(data["stopped_at"]) == int(state.step) < 40
    assert "eval_return" in log.read_text()
    played = task.evaluate(
        {"gains": evaluator.best_params["gains"][None]},
        jr.split(
            jr.fold_in(
                jr.fold_in(jr.split(jr.key(0))[1], 2**32 - 1), evaluator.best_step
            ),
            (1, 3),
        ),
    )[0]
    assert np.isclose(evaluator.best_return, played.mean())


def test_it_resumes_exactly(tmp_path: pathlib.Path) -> None:
    """It is stopped in the fourth of six generations, in the middle."""
    file = tmp_path / "calls"

    def stopped(params: Any, seed: int, data: Any = None) -> Any:
        with file.open("a") as calls:
            calls.write(".")
        if file.stat().st_size == 43:
            raise KeyboardInterrupt
        return noisy(params, seed, data)

    _, state, _ = evolved(rx.HostTask(noisy), 6)
    saves = rx.Checkpointer(tmp_path / "run", every=1)
    with pytest.raises(KeyboardInterrupt):
        evolved(rx.HostTask(stopped), 6, callbacks=saves)
    with rx.HostTask(stopped, workers=2, backend="threads") as task:
        with pytest.warns(RuntimeWarning, match="workers"):
            _, end, data = evolved(task, 6, callbacks=saves)
    assert data["metrics"]["fitness"].shape == (3, 6)
    assert same(end.mean, state.mean) and same(end.best_params, state.best_params)


def test_data_in_batches_and_more_tasks() -> None:
    """`Minibatch` and `MultiTask` of a task on the host are on the host too."""

    def error(params: Any, seed: int, data: Any = None) -> Any:
        return np.mean((data - params["gains"]) ** 2), None

    data = np.arange(12, dtype=np.float32).reshape(4, 3)
    batch = rx.Minibatch(rx.HostTask(error), 2)
    _, _, record = evolved(batch, data=data, eval_reps=1)
    traced = rx.Minibatch(
        lambda p, key, data: (jnp.mean((data - p["gains"]) ** 2), None), 2
    )
    _, _, other = evolved(traced, data=data, eval_reps=1)
    fitness = record["metrics"]["fitness"], other["metrics"]["fitness"]
    assert jnp.allclose(*fitness, rtol=1e-4)
    several = rx.MultiTask({"host": rx.HostTask(error), "more": rx.HostTask(noisy)})
    _, _, record = evolved(several, data=data, eval_reps=1)
    assert set(record["metrics"]["eval_data"]["fitness"]) == {"host", "more"}


def test_fresh_functions_share_programs() -> None:
    known: list[int] = []
    for target in range(12):

        def loss(params: Any, seed: int, data: Any = None, target: int = target) -> Any:
            return np.sum(params["gains"]) + target, None

        evolved(rx.HostTask(loss))
        known.append(len(_programs._programs))
    assert known[-1] == known[1]


def test_a_finished_run_has_an_empty_record(tmp_path: pathlib.Path) -> None:
    task = rx.HostTask(noisy)
    for length in 3, 0:
        _, _, data = evolved(task, 3, callbacks=rx.Checkpointer(tmp_path / "run"))
        assert data["metrics"]["fitness"].shape == (length, 6)
        assert data["metrics"]["eval_data"]["seed"].shape == (length, 6, 2)


# Faults.


@pytest.mark.parametrize(
    "what",
    ["raises", "exits", "is killed", "crashes", "hangs", "hangs outside of Python"],
)
def test_one_job_alone_is_touched(processes: Any, what: str) -> None:
    running = set[int]()
    while len(running) < 2:  # until those that were replaced have started
        expected, aux = processes.evaluate(POP, KEYS)
        running = set(np.asarray(aux["process"]).ravel().tolist())
    processes.handle.crew._warned = False
    with pytest.warns(RuntimeWarning, match="1 of 8 evaluations failed.*individual 5"):
        values, aux = processes.evaluate(POP, KEYS, {"what": what})
    others = np.arange(8) != 5
    assert np.isnan(values[5, 0])
    assert np.array_equal(values[others], expected[others])
    assert aux["process"][5, 0] == 0 and (aux["process"][others] > 0).all()


def test_workers_compute_in_the_thread_that_calls() -> None:
    with rx.HostTask(ready_at_once, workers=1) as task:
        assert task.evaluate(POP[:1], KEYS[:1])[0] == 1


def test_a_job_is_done_again(tmp_path: pathlib.Path) -> None:
    with rx.HostTask(misbehaving, workers=2, retries=1) as task:
        file = str(tmp_path / "once")
        values, _ = task.evaluate(POP, KEYS, {"what": "is odd", "file": file})
    assert np.isfinite(values).all() and os.path.exists(file)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_exception_ends_the_run(workers: int) -> None:
    class Mine(Exception):
        """An exception of a script, which no other process can import."""

    def fail(params: Any, seed: int, data: Any = None) -> Any:
        if data is not None and params[0] == 5:
            raise Mine("own words")
        return 0.0, None

    with rx.HostTask(fail, workers=workers) as task:
        with pytest.raises(Exception, match="own words") as info:
            task.evaluate(POP, KEYS, 1)
        if workers == 0:
            assert info.type is Mine
        assert info.type.__name__ == "Mine"
        notes = "\n".join(info.value.__notes__)
        seed = int(jr.key_data(KEYS)[5, 0, -1]) & 0x7FFFFFFF
        assert f"individual 5, repetition 0, seed {seed}" in notes
        assert workers == 0 or ", in fail\n" in notes
        assert task.evaluate(POP, KEYS)[0].shape == (8, 1)  # it can be used again


def test_a_worker_dies_between_generations(processes: Any) -> None:
    """And one that has no batch breaks pebble's pool."""
    values, aux = processes.evaluate(POP, KEYS)
    for process in np.unique(np.asarray(aux["process"])).tolist():
        os.kill(process, signal.SIGKILL)
    time.sleep(0.5)
    again, _ = processes.evaluate(POP, KEYS)
    assert np.array_equal(values, again)


def test_what_a_job_started_ends_with_it(tmp_path: pathlib.Path) -> None:
    """A simulator in a process of its own, beyond the timeout."""
    file = tmp_path / "pid"

    def waits(params: Any, seed: int, data: Any = None) -> Any:
        simulator = subprocess.Popen(["sleep", "60"])
        file.write_text(str(simulator.pid))
        simulator.wait()
        return 0.0, None

    with rx.HostTask(waits, workers=1, timeout=0.5, retries=0) as task:
        with pytest.raises(RuntimeError, match="all 1 evaluations.*took more than"):
            task.evaluate(POP[:1], KEYS[:1])
    _wait(lambda: not _runs(int(file.read_text())), 5)


class Pair(NamedTuple):
    one: Any
    two: Any


def test_classes_of_a_script(tmp_path: pathlib.Path) -> None:
    class Aux(NamedTuple):
        seed: int

    def own(params: Any, seed: int, data: Any = None) -> Any:
        return 0.0, Pair(Aux(seed), np.zeros(2))

    with rx.HostTask(own, workers=1) as task:
        _, aux = task.evaluate(POP, KEYS)
    assert type(aux) is Pair and type(aux.one).__name__ == "Aux"
    assert aux.two.shape == (8, 1, 2)


def test_data_that_change(tmp_path: pathlib.Path) -> None:
    def reads(params: Any, seed: int, data: Any = None) -> Any:
        return float(data["x"][0] + data["n"]), None

    with rx.HostTask(reads, workers=1, backend="threads") as task:
        data = {"x": np.zeros(1), "n": 0}
        for step in range(3):
            data["x"][0], data["n"] = step, 10 * step
            assert (task.evaluate(POP, KEYS, data)[0] == 11 * step).all()


def test_threads_end() -> None:
    def slow(params: Any, seed: int, data: Any = None) -> Any:
        time.sleep(0.3 if params[0] % 2 else 0)
        return 0.0, None

    before = threading.active_count()
    for _ in range(2):
        with rx.HostTask(
            slow, workers=2, backend="threads", timeout=0.1, retries=0
        ) as task:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                values, _ = task.evaluate(POP, KEYS)
            assert np.isnan(values).ravel().tolist() == [False, True] * 4
    _wait(lambda: threading.active_count() <= before, 5)


def test_numbers_of_several_types() -> None:
    calls = iter(range(1000))

    def mixed(params: Any, seed: int, data: Any = None) -> Any:
        return 0.0, {"hits": 0.5 if next(calls) < 12 else 1}

    _, _, data = evolved(rx.HostTask(mixed))
    assert data["metrics"]["eval_data"]["hits"][:, 0, 0].tolist() == [0.5, 1, 1, 1]


def test_no_jobs_and_the_own_task() -> None:
    task = rx.HostTask(noisy)
    nobody = {"gains": jnp.zeros((0, 3))}
    assert task.evaluate(nobody, jr.split(jr.key(0), (0, 2)))[0].shape == (0, 2)

    def recursive(params: Any, seed: int, data: Any = None) -> Any:
        return again.evaluate(POP, KEYS)[0][0, 0], None

    again = rx.HostTask(recursive)
    with pytest.raises(RuntimeError, match="cannot evaluate the task that it belongs"):
        again.evaluate(POP, KEYS)


def test_all_fail() -> None:
    task = rx.HostTask(lambda p, seed, data=None: (1 / 0, None), errors="nan")
    with pytest.raises(RuntimeError, match="all 8 evaluations failed.*ZeroDivision"):
        task.evaluate(POP, KEYS)
    with pytest.raises(RuntimeError, match="all 8 evaluations.*sys.exit"):
        rx.HostTask(lambda p, seed, data=None: sys.exit(), retries=0).evaluate(
            POP, KEYS
        )


def test_nan_is_for_the_guard() -> None:
    def half(params: Any, seed: int, data: Any = None) -> Any:
        return (np.nan if seed % 2 else float(np.sum(params["gains"] ** 2))), None

    _, _, data = evolved(rx.HostTask(half), eval_reps=1)
    assert data["metrics"]["failed"].sum() > 0
    assert jnp.isfinite(data["metrics"]["best_fitness"]).all()


@pytest.mark.parametrize(
    "result, message",
    [
        ("text", "must be one real number, but got 'text' of type str"),
        (None, "must return a pair"),
        (np.zeros(3), "must be one real number, but got an array of shape"),
        (1j, "must be one real number"),
        (({"a": 1.0}, None), "must be one real number"),
    ],
)
@pytest.mark.parametrize("errors", ["raise", "nan"])
def test_a_value_that_is_no_number(result: Any, message: str, errors: Any) -> None:
    pair = result if isinstance(result, tuple) or result is None else (result, None)
    task = rx.HostTask(lambda p, seed, data=None: pair, errors=errors)
    with pytest.raises(TypeError, match=message) as info:
        task.evaluate(POP, KEYS)
    assert "individual 0, repetition 0, seed" in "\n".join(info.value.__notes__)


def test_an_aux_that_does_not_fit() -> None:
    with pytest.raises(TypeError, match=r"got 'a' of type str at `\['name'\]`"):
        rx.HostTask(lambda p, seed, data=None: (0.0, {"name": "a"})).evaluate(POP, KEYS)
    task = rx.HostTask(lambda p, seed, data=None: (0.0, np.zeros(int(p[0]))))
    with pytest.raises(TypeError, match="same structure and shapes in each evaluation"):
        task.evaluate(POP, KEYS)
    grows = iter(range(100))
    task = rx.HostTask(lambda p, seed, data=None: (0.0, np.zeros(next(grows) // 12)))
    with pytest.raises(TypeError, match="must be the same in each generation"):
        evolved(task)


# Refusals.


@pytest.mark.parametrize(
    "kws, error, message",
    [
        ({"workers": -1}, ValueError, "`workers`.*at least 0, but got -1"),
        ({"timeout": 0, "workers": 1}, ValueError, "`timeout`.*above 0, but got 0"),
        ({"timeout": 3}, ValueError, "needs workers.*Pass `workers=1`"),
        ({"backend": "mpi"}, ValueError, "one of 'processes', 'threads', 'ray'"),
        ({"errors": "ignore"}, ValueError, "one of 'raise', 'nan', but got 'ignore'"),
        ({"retries": -1}, ValueError, "`retries`.*at least 0"),
        ({"worker": 1}, TypeError, "has no argument `worker`. Closest: 'workers'"),
        ({"function": lambda p: 0}, TypeError, "must have the signature"),
        ({"function": 3}, TypeError, "must be a function"),
        ({"function": rx.HostTask}, TypeError, "but got the class `HostTask`"),
        (
            {"function": lambda p, seed, data=sys.stdout: 0, "workers": 1},
            TypeError,
            "cannot be pickled.*backend='threads'",
        ),
    ],
)
def test_wrong_arguments(kws: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        rx.HostTask(**{"function": noisy, **kws})


def test_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'realax\[host\]'"):
        rx.HostTask(noisy, workers=1)
    with pytest.raises(ImportError, match=r"pip install 'realax\[ray\]'"):
        rx.HostTask(noisy, workers=1, backend="ray")


INSIDE: dict[str, Callable[[Any, Any], Any]] = {
    "jit": lambda task, trainer: jax.jit(lambda key: trainer.init_and_train_(key))(
        jr.key(0)
    ),
    "jit of the task": lambda task, trainer: jax.jit(lambda p: task(p, jr.key(0)))(
        {"gains": jnp.zeros(3)}
    ),
    "jit around constants": lambda task, trainer: jax.jit(
        lambda: task({"gains": jnp.zeros(3)}, jr.key(0))
    )(),
    "vmap": lambda task, trainer: jax.vmap(trainer.init_and_train)(
        jr.split(jr.key(0), 2)
    ),
    "grad": lambda task, trainer: jax.grad(lambda p: task(p, jr.key(0))[0])(
        {"gains": jnp.zeros(3)}
    ),
    "a trainer": lambda task, trainer: rx.Replicated(trainer, 2).init_and_train(
        jr.key(0)
    ),
    "a task": lambda task, trainer: rx.evolve(
        jnp.zeros(2),
        lambda p, key, data=None: (trainer.init_and_train_(key).best_fitness, None),
        jr.key(0),
        steps=1,
        popsize=4,
    ),
}


@pytest.mark.parametrize("where", INSIDE)
def test_only_the_outermost(where: str) -> None:
    task = rx.HostTask(noisy)
    params = {"gains": jnp.zeros(3)}
    trainer = rx.EvosaxTrainer(2, "CMA_ES", task, params, popsize=4)
    with pytest.raises(RuntimeError, match="outermost"):
        INSIDE[where](task, trainer)


def test_other_uses_that_are_refused() -> None:
    task = rx.HostTask(noisy)
    params = {"gains": jnp.zeros(3)}
    with pytest.raises(ValueError, match="runs on the host, where jax takes no deriv"):
        rx.optimize(params, task, jr.key(0), steps=1)
    with pytest.raises(ValueError, match="`n_devices`.*on the host.*`workers`"):
        evolved(task, n_devices=2)
    with pytest.raises(ValueError, match="`n_devices`.*on the host.*`workers`"):
        evolved(task, n_devices=2, strategy="SimpleGA")
    for strategy in "CMA_ES", "SimpleGA":
        trainer = rx.EvosaxTrainer(2, strategy, task, params, popsize=4)
        with pytest.raises(ValueError, match="`batches` cannot be streamed"):
            trainer.fit_stream(jr.key(0), [np.zeros(3)])
    with pytest.raises(TypeError, match="runs on the host, where policies can be evol"):
        rx.PPO("gymnasium::CartPole-v1", total_timesteps=10)


# Whole processes.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_a_run_that_hangs(tmp_path: pathlib.Path, number: int) -> None:
    process = _started(tmp_path, "1000000")
    _wait(lambda: _latest(tmp_path) > 0)
    (tmp_path / "hang").touch()
    time.sleep(0.5)
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True
    )
    children = [int(pid) for pid in listed.stdout.split()]
    assert len(children) >= 2
    before = _latest(tmp_path)
    process.send_signal(number)
    try:
        process.wait(20)
    finally:
        process.kill()
    _wait(lambda: not any(map(_runs, children)))
    assert _latest(tmp_path) >= before


@pytest.mark.slow
def test_a_kill_changes_nothing(tmp_path: pathlib.Path) -> None:
    """`benchmarks/host_faults.py` kills twenty times."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    process = _started(killed, "150")
    _wait(lambda: _latest(killed) > 0)
    assert process.poll() is None, "it ended before the kill"
    process.kill()
    process.wait()
    both = [_started(folder, "150") for folder in (whole, killed)]
    assert [process.wait(120) for process in both] == [0, 0]
    first, second = (np.load(folder / "fitness.npy") for folder in (whole, killed))
    assert 0 < len(second) < 150 and np.array_equal(first[-len(second) :], second)


def test_workers_outlive_the_thread_that_started_them() -> None:
    """On Linux, a process is told of the end of the thread that started it."""

    def who(params: Any, seed: int, data: Any = None) -> Any:
        return 0.0, os.getpid()

    with rx.HostTask(who, workers=1) as task:
        first: list[Any] = []
        thread = threading.Thread(target=lambda: first.append(task.evaluate(POP, KEYS)))
        thread.start()
        thread.join()
        time.sleep(0.5)
        _, again = task.evaluate(POP, KEYS)
    assert np.array_equal(again, first[0][1]) and len(np.unique(again)) == 1


def test_a_pipe_tells_of_the_death_of_a_parent() -> None:
    """Where there is no signal for it, as on other systems than Linux."""
    code = (
        "import multiprocessing, os, sys, time\n"
        "def child(reader):\n"
        "    from realax._workers import _worker\n"
        "    sys.platform = 'another'\n"
        "    _worker._end_with(os.getppid(), reader)\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('forkserver')\n"
        "    reader, writer = context.Pipe(duplex=False)\n"
        "    context.Process(target=child, args=(reader,)).start()\n"
        "    time.sleep(60)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "script.py"
        file.write_text(code)
        process = subprocess.Popen(
            [sys.executable, str(file)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert _runs(child)
        process.kill()
        process.communicate()
        _wait(lambda: not _runs(child), 10)


def test_nothing_is_imported_before_it_is_needed() -> None:
    names = ["gymnasium", "ray", "pebble", "loky"]  # jax imports cloudpickle
    code = f"import sys, realax; print([m for m in {names} if m in sys.modules])"
    assert python("-c", code).stdout == "[]\n"


def _started(folder: pathlib.Path, steps: str) -> Any:
    command = [sys.executable, str(ROOT / "tests" / "host_run.py")]
    return subprocess.Popen(
        [*command, str(folder), "processes", steps],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )


def _latest(folder: pathlib.Path) -> int:
    files = (folder / "run").glob("step_*.ckpt")
    return max((int(file.stem.split("_")[1]) for file in files), default=0)


def _wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    stat = pathlib.Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().split()[2] != "Z"
    except OSError:
        return False
