"""Logging: the file, TensorBoard, wandb, and what fails."""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Generator
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx
from realax.training._carry import Selected
from realax.training.log import default_es_metrics, default_grad_metrics
from realax.training.observers._jsonl import JsonLines

from .helpers import (
    ROOT,
    compilations,
    environment,
    rastrigin,
    run_of,
    same,
    wandb_history,
)
from .typed import observers as typed_observers


def _run(steps: int, logger: Any, *more: Any, **kws: Any) -> Any:
    return rx.EvosaxTrainer(
        steps,
        "SNES",
        rastrigin,
        jnp.ones(2),
        popsize=6,
        callbacks=more,
        logger=logger,
        **kws,
    ).init_and_train(jr.key(0))


def _lines(path: pathlib.Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_step_is_a_line(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "deep" / "log.jsonl"
    _, data = _run(60, rx.Logger(log_file=path))
    lines = _lines(path)
    assert [line["step"] for line in lines] == [*range(1, 61)]
    metrics = data["metrics"]
    for name in ("best_fitness", "mean_fitness"):
        assert np.array_equal([line[name] for line in lines], metrics[name])
    assert [line["failed"] for line in lines] == metrics["failed"].tolist()
    assert [line["max_fitness"] for line in lines] == metrics["fitness"].max(1).tolist()
    assert lines[0]["rejected"] is False


def test_gradient_training_is_logged(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log.jsonl"
    logger = rx.Logger(log_file=path, metrics_fn=default_grad_metrics)
    _, state, data = rx.optimize(
        jnp.ones(2), rastrigin, jr.key(0), steps=9, logger=logger
    )
    lines = _lines(path)
    assert np.array_equal([line["loss"] for line in lines], data["metrics"]["loss"])
    assert lines[-1]["best_loss"] == float(state.best_loss)
    implicit = tmp_path / "implicit.jsonl"
    rx.optimize(
        jnp.ones(2), rastrigin, jr.key(0), steps=9, logger=rx.Logger(log_file=implicit)
    )
    assert implicit.read_text() == path.read_text()


def test_what_is_not_finite_is_null(tmp_path: pathlib.Path) -> None:
    def metrics_fn(state: Any, metrics: Any) -> Any:
        row = {"a": jnp.nan * state.step, "b": jnp.array([1.0, -jnp.inf])}
        return row, None, state.step

    _run(2, rx.Logger(log_file=tmp_path / "x", metrics_fn=metrics_fn))
    assert _lines(tmp_path / "x")[0] == {"step": 1, "a": None, "b": [1.0, None]}


def test_resuming_drops_what_came_after(tmp_path: pathlib.Path) -> None:
    expected = tmp_path / "expected.jsonl"
    _run(50, rx.Logger(log_file=expected))
    path = tmp_path / "log.jsonl"
    _run(30, rx.Logger(log_file=path), rx.Checkpointer(tmp_path / "c", every=10))
    with open(path, "a") as file:
        file.write('{"step": 31, "best_fitness": 1}\n{"step": 32, "best_fit')
    _run(50, rx.Logger(log_file=path), rx.Checkpointer(tmp_path / "c", every=10))
    assert path.read_bytes() == expected.read_bytes()
    _run(5, rx.Logger(log_file=path))
    assert len(_lines(path)) == 5, "a run from step 0 begins the file anew"


def test_steps_of_ones_own(tmp_path: pathlib.Path) -> None:
    """What is dropped goes by the steps trained, whatever they are logged under."""

    def metrics_fn(state: Any, metrics: Any) -> Any:
        return {"x": metrics["best_fitness"]}, None, 8 * state.step - 3

    path = tmp_path / "log"
    for steps in (10, 20):
        logger = rx.Logger(log_file=path, metrics_fn=metrics_fn)
        _run(steps, logger, rx.Checkpointer(tmp_path / "c", every=4))
    lines = _lines(path)
    assert [line["step"] for line in lines] == [8 * i - 3 for i in range(1, 21)]
    assert [line["train_step"] for line in lines] == [*range(1, 21)]


def test_transform_and_verbose(tmp_path: pathlib.Path, capsys: Any) -> None:
    def transform(row: dict[str, Any]) -> dict[str, Any]:
        return {"best": row["best_fitness"], "kind": "SNES"}

    logger = rx.Logger(
        log_file=tmp_path / "x", host_log_transform=transform, verbose=True
    )
    _run(20, logger)
    assert set(_lines(tmp_path / "x")[0]) == {"step", "best", "kind"}
    assert "step 20: best=" in capsys.readouterr().out


def test_what_metrics_fn_chose_is_saved(tmp_path: pathlib.Path) -> None:
    def metrics_fn(state: Any, metrics: Any) -> Any:
        chosen = {"mean": state.mean, "worst": jnp.max(metrics["fitness"])}
        return {"x": state.best_fitness}, chosen, 10 * state.step

    logger = rx.Logger(
        metrics_fn=metrics_fn, ckpt_file=tmp_path / "es" / "ant", ckpt_freq=7
    )
    state, data = _run(21, logger, record=lambda state: state.mean)
    files = sorted(path.name for path in (tmp_path / "es").iterdir())
    assert files == ["ant_140.eqx", "ant_210.eqx", "ant_70.eqx"]
    like = {"mean": jnp.zeros(2), "worst": jnp.zeros(())}
    for step in (7, 14, 21):
        loaded = rx.load_params(tmp_path / "es" / f"ant_{10 * step}.eqx", like)
        assert same(loaded["mean"], data["record"][step - 1])
        assert loaded["worst"] == data["metrics"]["fitness"][step - 1].max()
    with pytest.raises(rx.MisfitError, match=r"`params\['mean'\]`: expected float32"):
        rx.load_params(tmp_path / "es" / "ant_70.eqx", {"mean": jnp.zeros(3)})


def test_a_policy_is_saved_and_plays(tmp_path: pathlib.Path) -> None:
    policy = rx.MLPPolicy(4, 2, 8, 1, key=jr.key(0))
    logger = rx.Logger(ckpt_file=tmp_path / "policy", ckpt_freq=2)
    _, state, _ = rx.evolve(
        policy,
        rx.GymnaxTask("CartPole-v1", max_steps=20),
        jr.key(1),
        popsize=4,
        steps=2,
        logger=logger,
    )
    loaded = rx.load_params(tmp_path / "policy_2.eqx", policy)
    assert same(loaded.initialize(jr.key(0)), policy.initialize(jr.key(0)))
    output, _ = loaded(jnp.ones(4), None, jr.key(0))
    expected, _ = state.best_params(jnp.ones(4), None, jr.key(0))
    assert same(output, expected)


def test_fresh_loggers_compile_nothing(tmp_path: pathlib.Path) -> None:
    _run(10, rx.Logger(log_file=tmp_path / "a"), rx.Checkpointer(tmp_path / "c"))
    with compilations() as names:
        _run(12, rx.Logger(log_file=tmp_path / "b"), rx.Checkpointer(tmp_path / "d", 5))
    assert names == []


def test_several_sinks(tmp_path: pathlib.Path) -> None:
    logger = rx.Logger(log_file=tmp_path / "x", log_dir=tmp_path / "board")
    _run(12, logger)
    assert len(_lines(tmp_path / "x")) == 12
    assert [step for step, _ in _scalars(tmp_path / "board")] == [*range(1, 13)]


def test_tensorboard_is_purged(tmp_path: pathlib.Path) -> None:
    for steps in (20, 30):
        _run(
            steps,
            rx.Logger(log_dir=tmp_path / "board"),
            rx.Checkpointer(tmp_path / "c", every=10),
        )
    files = sorted((tmp_path / "board").glob("event*"), key=os.path.getmtime)
    from tensorboardX.proto.event_pb2 import SessionLog

    starts = [
        event.step
        for event in _events(files[-1])
        if event.session_log.status == SessionLog.START
    ]
    assert starts == [21]


def _events(path: pathlib.Path) -> Any:
    """The events of a file: each a length, a checksum, bytes, a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data = path.read_bytes()
    while data:
        size = int.from_bytes(data[:8], "little")
        yield Event.FromString(data[12 : 12 + size])
        data = data[16 + size :]


def _scalars(folder: pathlib.Path) -> list[tuple[int, float]]:
    return [
        (event.step, value.simple_value)
        for path in folder.glob("event*")
        for event in _events(path)
        for value in event.summary.value
        if value.tag == "best_fitness"
    ]


WANDB = """
import os, signal, sys, warnings
import jax.numpy as jnp, jax.random as jr, realax as rx
import wandb
from tests.helpers import rastrigin

logger = rx.Logger(wandb_log=True, log_file="log.jsonl", **{kws})
logger.init(project="tests", config={{"a": 1}}, mode="offline")
class Act(rx.AbstractObserver):
    def on_chunk(self, steps, selected, state):
        {act}
checkpointer = rx.Checkpointer("c", every=50)
rx.evolve(jnp.ones(2), rastrigin, jr.key(0), steps={steps}, popsize=6, logger=logger,
          callbacks=(Act(every=50), checkpointer))
logger.finish()
print("trained")
"""


def _wandb(
    folder: pathlib.Path, steps: int = 150, kws: str = "{}", act: str = "pass"
) -> tuple[str, str]:
    code = WANDB.format(kws=kws, act=act, steps=steps)
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT), WANDB_SILENT="true"),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    assert "trained" in result.stdout
    return result.stdout, result.stderr


def test_wandb_gets_every_step(tmp_path: pathlib.Path) -> None:
    _wandb(tmp_path)
    rows, lines = wandb_history(tmp_path), _lines(tmp_path / "log.jsonl")
    assert [row["_step"] for row in rows] == [*range(1, 151)]
    assert [row["best_fitness"] for row in rows] == [x["best_fitness"] for x in lines]


def test_wandb_resumes_in_a_linked_run(tmp_path: pathlib.Path) -> None:
    _wandb(tmp_path, 100)
    first = json.loads((tmp_path / "log.jsonl.wandb.json").read_text())["id"]
    (old,) = (tmp_path / "wandb").glob("offline-run-*")
    old.rename(tmp_path / "old")
    _wandb(tmp_path, 150)
    rows = wandb_history(tmp_path)
    assert [row["_step"] for row in rows] == [*range(101, 151)]
    assert len(_lines(tmp_path / "log.jsonl")) == 150
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    data = file.read_bytes()
    assert b"resumed_from" in data and first.encode() in data


def test_wandb_killed_in_the_middle(tmp_path: pathlib.Path) -> None:
    """Its service dies; the run warns once and goes on."""
    act = (
        "steps[-1] == 50 and os.system('pkill -9 -P %d wandb-core; true' % os.getpid())"
    )
    _, errors = _wandb(tmp_path, 2000, act=act)
    assert [line["step"] for line in _lines(tmp_path / "log.jsonl")] == [
        *range(1, 2001)
    ]
    assert errors.count("The run continues without it") == 1, errors


def test_a_value_that_wandb_can_not_take(tmp_path: pathlib.Path) -> None:
    kws = "{'host_log_transform': lambda row: {**row, 'odd': object()}}"
    _, errors = _wandb(tmp_path, kws=kws)
    assert [line["step"] for line in _lines(tmp_path / "log.jsonl")] == [*range(1, 151)]
    assert errors.count("The run continues without it") <= 1


def test_a_missing_login_is_found_at_init(tmp_path: pathlib.Path) -> None:
    code = (
        "import realax as rx\n"
        "logger = rx.Logger(wandb_log=True)\n"
        "logger.init(project='tests', mode='online')\n"
    )
    env = environment(HOME=str(tmp_path), WANDB_DIR=str(tmp_path), NETRC="/nowhere")
    env.pop("WANDB_API_KEY", None)
    env.pop("WANDB_MODE", None)
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert result.returncode == 1 and "UsageError" in result.stderr


def test_wrong_arguments(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RuntimeError, match=r"logger\.init\(project="):
        _run(5, rx.Logger(wandb_log=True))
    with pytest.raises(ValueError, match="`ckpt_freq` of `Logger` must be.*got 0"):
        rx.Logger(ckpt_freq=0)
    with pytest.raises(TypeError, match="`Logger` has no argument `log_fil`. Closest:"):
        rx.Logger(log_fil="x")
    with pytest.raises(TypeError, match="`log_file` of `Logger` must be a path.*got 3"):
        rx.Logger(log_file=3)
    with pytest.raises(TypeError, match="`metrics_fn` of `Logger` must be a function"):
        rx.Logger(metrics_fn={})
    assert rx.Logger(ckpt_freq=np.int64(7)).ckpt_freq == 7
    assert rx.Logger(ckpt_freq=7.0, verbose=np.True_).verbose is True


BAD_METRICS: dict[str, tuple[Any, str]] = {
    "no tuple": ({}, r"must return `\(row, checkpoint, step\)`, but got {} of type"),
    "no step": (({}, None), "but got a tuple of 2. For example: `return row, None"),
    "nothing as step": (({}, None, None), "a number as its step, but got None"),
    "text as step": (({}, None, "one"), "a number as its step, but got 'one'"),
    "steps": (({}, None, jnp.ones(2)), "as its step, but got an array of shape"),
    "a number as row": ((1.0, None, 1), "a dictionary as its row, but got 1.0"),
    "text in a row": (({"name": "a"}, None, 1), "at 'name' got 'a' of type str"),
}


@pytest.mark.parametrize("kind", BAD_METRICS)
def test_wrong_metrics(kind: str) -> None:
    result, message = BAD_METRICS[kind]
    with pytest.raises(TypeError, match=message):
        _run(5, rx.Logger(metrics_fn=lambda state, metrics: result))


@pytest.mark.parametrize("result", [None, 3.0, [("a", 1)]])
def test_a_transform_without_a_row(result: Any, tmp_path: pathlib.Path) -> None:
    logger = rx.Logger(log_file=tmp_path / "x", host_log_transform=lambda row: result)
    with pytest.raises(TypeError, match="`host_log_transform` must return the row"):
        _run(5, logger)


@pytest.mark.skipif(os.name != "posix", reason="a device of POSIX")
def test_a_log_that_is_a_device() -> None:
    _run(5, rx.Logger(log_file="/dev/null"), rx.Logger(log_file="/dev/null"))
    assert not pathlib.Path("/dev/.null.lock").exists()


@pytest.mark.skipif(not pathlib.Path("/proc/self").exists(), reason="Linux's /proc")
def test_a_folder_that_takes_no_files() -> None:
    with pytest.raises(OSError, match="`log_file` could not be written.*use one on a"):
        _run(5, rx.Logger(log_file="/proc/realax.jsonl"))


def test_a_link_is_the_log_that_it_points_to(tmp_path: pathlib.Path) -> None:
    path, link = tmp_path / "log", tmp_path / "link"
    _log(path, 1, "a note", 2)
    link.symlink_to(path)
    with pytest.warns(RuntimeWarning, match="1 line is"):
        assert _go_on(link, 2) == [1, 2, 3]
    assert link.is_symlink() and len(_lines(path)) == 3
    with pytest.raises(RuntimeError, match="belongs to a run that is in progress"):
        _run(5, rx.Logger(log_file=path), rx.Logger(log_file=link))


def test_what_is_selected_is_checked() -> None:
    def select(state: Any, metrics: Any) -> Any:
        return metrics

    selected = Selected("Talk", select)
    with pytest.raises(
        TypeError, match=r"`Talk.select` computes.*'text' .*at `\['a'\]`"
    ):
        selected(None, {"a": "text"})
    selected(None, {"a": jnp.ones(2), "b": 1, "c": None})


def test_no_callbacks() -> None:
    trainer = rx.EvosaxTrainer(2, "SNES", rastrigin, jnp.ones(2), callbacks=None)
    assert len(trainer.callbacks) == 0


def test_the_same_logger_twice(tmp_path: pathlib.Path) -> None:
    logger = rx.Logger(log_file=tmp_path / "x")
    with pytest.raises(ValueError, match="the same `Logger` is there twice"):
        _run(5, logger, logger)
    with pytest.raises(RuntimeError, match=f"log {tmp_path / 'x'} belongs to a run"):
        _run(5, logger, rx.Logger(log_file=tmp_path / "x"))
    board = (rx.Logger(log_dir=tmp_path / "y"), rx.Logger(log_dir=tmp_path / "y"))
    with pytest.raises(RuntimeError, match=f"log in {tmp_path / 'y'} belongs to a run"):
        _run(5, logger, *board)
    _run(5, logger, board[0])
    assert len(_lines(tmp_path / "x")) == 5, "all are free again"


@contextlib.contextmanager
def _without_rights() -> Generator[None]:
    """As a user who may write nowhere: root may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def _start(observer: Any, step: int = 0) -> Any:
    trainer = rx.EvosaxTrainer(5, "SNES", rastrigin, jnp.ones(2), popsize=4)
    state = trainer.initialize(jr.key(0))
    run = run_of(trainer, state)
    observer.claim()
    try:
        observer.restore(run, state)
        observer.on_start(run, state)
    finally:
        observer.on_end(state, None)


@pytest.mark.parametrize("argument", ["log_file", "log_dir", "ckpt_file", "folder"])
def test_places_that_can_not_be_written(argument: str, tmp_path: pathlib.Path) -> None:
    def make(path: pathlib.Path) -> Any:
        one = rx.Checkpointer if argument == "folder" else rx.Logger
        return one(**{argument: path})

    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"`{argument}`.*A file is where a folder should"):
        _start(make(tmp_path / "file" / "deep" / "a"))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for path in (tmp_path, *tmp_path.parents):
        if path.owner() == "root" and path != pathlib.Path("/"):
            path.chmod(0o755 | path.stat().st_mode)
    places = [closed / "deep" / "a", closed / "a"]
    if argument in ("folder", "log_dir"):
        places.append(closed)
    for place in places:
        with (
            _without_rights(),
            pytest.raises(PermissionError, match=f"`{argument}`.*Get permission to wr"),
        ):
            _start(make(place))
    if argument == "log_file":
        with pytest.raises(IsADirectoryError, match="A folder is where a file should"):
            _start(make(closed))


def _log(path: pathlib.Path, *lines: str | int | bytes) -> bytes:
    """Write a log: a row for each number, and other lines as they are."""
    parts = [
        line
        if isinstance(line, bytes)
        else (
            f'{{"step": {line}}}\n' if isinstance(line, int) else f"{line}\n"
        ).encode()
        for line in lines
    ]
    path.write_bytes(b"".join(parts))
    return b"".join(parts)


def _go_on(path: pathlib.Path, step: int) -> list[int]:
    """The steps in a log on which a run has gone on from `step`."""
    log = JsonLines(path)
    log.open()
    log.start(step)
    log.write([(step + 1, step + 1, {})])
    log.close()
    return [line["step"] for line in _lines(path)]


def test_a_note_is_kept_beside(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log"
    odd = ["# a note", "[1, 2]", '{"other": 3}', "\x00\x00"]
    _log(path, 1, 2, *odd, 3, 4, 5, 6)
    with pytest.warns(RuntimeWarning, match="4 lines are no rows of the log.*damaged."):
        assert _go_on(path, 5) == [1, 2, 3, 4, 5, 6]
    beside = tmp_path / "log.damaged"
    assert beside.read_text().split("\n")[:-1] == odd
    _log(path, 1, "later", 2)
    with pytest.warns(RuntimeWarning, match="1 line is no row of the log"):
        assert _go_on(path, 0) == [1]
    assert beside.read_text().split("\n")[:-1] == [*odd, "later"]


def test_a_bad_sector_costs_its_own_lines(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log"
    whole = _log(path, *range(1, 101))
    path.write_bytes(whole[:300] + b"\0" * 50 + whole[350:])
    lost = {i for i in range(1, 101) if not _has(path, i)}
    assert 3 <= len(lost) <= 6
    with pytest.warns(RuntimeWarning) as warned:
        assert _go_on(path, 90) == [i for i in range(1, 92) if i not in lost]
    gap = f"lacks steps before 91.*: steps {min(lost)} to {max(lost)}. They"
    assert any(re.search(gap, str(warning.message)) for warning in warned)
    assert any(" no row" in str(warning.message) for warning in warned)


def _has(path: pathlib.Path, step: int) -> bool:
    return f'{{"step": {step}}}\n'.encode() in path.read_bytes().splitlines(True)


@pytest.mark.parametrize(
    ("lines", "step", "gap"),
    [
        ((1, 2, 3), 5, "steps 4 to 5"),
        ((1, 2, 4, 5, 7), 7, "step 3, step 6"),
        ((1, 3, 5, 7, 9, 11), 11, "step 2, step 4, step 6 and 2 more gaps"),
    ],
)
def test_a_gap_is_said(lines: Any, step: int, gap: str, tmp_path: pathlib.Path) -> None:
    _log(tmp_path / "log", *lines)
    with pytest.warns(RuntimeWarning, match=f"before {step + 1}, .*: {gap}. They were"):
        assert _go_on(tmp_path / "log", step) == [*lines, step + 1]


@pytest.mark.parametrize(
    ("lines", "gap"),
    [(range(1, 26), "26 to 30"), (range(6, 31), "1 to 5"), ((), "1 to 30")],
)
def test_a_shortened_log_is_said(lines: Any, gap: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log"

    def run(steps: int) -> None:
        checkpointer = rx.Checkpointer(tmp_path / "c", every=10)
        _run(steps, rx.Logger(log_file=path), checkpointer)

    run(30)
    whole = path.read_text().splitlines(True)
    path.write_text("".join(whole[i - 1] for i in lines))
    with pytest.warns(RuntimeWarning, match=f"lacks steps before 31.*: steps {gap}. "):
        run(40)
    assert [line["step"] for line in _lines(path)] == [*lines, *range(31, 41)]


def test_a_log_may_begin_late(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log"
    trainer = rx.EvosaxTrainer(20, "SNES", rastrigin, jnp.ones(2), popsize=6)
    state = trainer.init_and_train_(jr.key(0))
    for steps in (40, 60):
        logger = rx.Logger(log_file=path)
        more = rx.EvosaxTrainer(
            20, "SNES", rastrigin, jnp.ones(2), popsize=6, callbacks=logger
        )
        state = more.train_(state, jr.key(0))
        assert [line["step"] for line in _lines(path)] == [*range(21, steps + 1)]


@pytest.mark.parametrize(
    "tail", [b'{"step": 6, "x', b"", b'{"step": 6}', b'{"step": 6}\n{"st']
)
def test_a_cut_line_beyond_is_dropped_silently(
    tail: bytes, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "log"
    _log(path, 1, 2, 3, 4, 5, tail)
    assert _go_on(path, 5) == [1, 2, 3, 4, 5, 6]
    _log(path, 1, 2, 3, b'{"step": 4}')
    assert _go_on(path, 4) == [1, 2, 3, 4, 5], "only its newline was cut off"
    assert not (tmp_path / "log.damaged").exists()


def test_a_rewritten_log_is_the_old_or_the_new(
    tmp_path: pathlib.Path, monkeypatch: Any
) -> None:
    path = tmp_path / "log"
    _log(path, 1, 2, "note", 3, 4)
    before = path.read_bytes()

    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with (
            pytest.warns(RuntimeWarning, match="no row of"),
            pytest.raises(OSError, match="`log_file` could not be written.*Make room"),
        ):
            _go_on(path, 3)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".log.*.tmp"))


def test_a_finished_run_leaves_its_log(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log"

    def run(steps: int) -> None:
        logger = rx.Logger(log_file=path, log_dir=tmp_path / "board")
        _run(steps, logger, rx.Checkpointer(tmp_path / "c", every=10))

    run(20)
    board = sorted((tmp_path / "board").glob("event*"))
    with open(path, "a") as file:
        file.write("a note\n")
    before = path.read_bytes(), path.stat().st_mtime_ns
    run(20)
    run(10)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert sorted((tmp_path / "board").glob("event*")) == board
    path.unlink()
    run(20)
    assert not path.exists()


def test_the_typed_script_runs() -> None:
    by_position, by_name = typed_observers.main()
    assert by_position is not None and (by_name or 0) <= by_position


def test_the_signature_is_the_readmes() -> None:
    assert rx.training.log.default_es_metrics is rx.default_es_metrics
    logger = rx.Logger(
        wandb_log=False,
        metrics_fn=default_es_metrics,
        ckpt_file="../ckpts_ex/es",
        ckpt_freq=50,
    )
    logger.init(project="es_brax_example", config={})
    logger.finish()
