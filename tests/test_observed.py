"""The observed run: order, errors, interruption, and the progress bar."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import types
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import pytest

import realax as rx

from .helpers import ROOT, environment, python, rastrigin, same


class Diary(rx.AbstractObserver):
    """Writes down what happens, and fails where it is told to."""

    name: str = eqx.field(static=True)
    fail_at: str | None = eqx.field(static=True, default=None)
    diary: rx.Handle[list[str]] = eqx.field(static=True, default_factory=rx.Handle)

    def _write(self, what: str) -> None:
        assert self.diary.value is not None
        self.diary.value.append(f"{self.name} {what}")
        if self.fail_at == what:
            raise LookupError(f"{self.name} fails at {what}")

    def on_start(self, run: rx.Run, state: Any) -> None:
        self._write("start")

    def on_chunk(self, steps: Any, selected: Any, state: Any) -> None:
        assert selected is None
        self._write("chunk")

    def on_end(self, state: Any, error: BaseException | None) -> None:
        self._write(f"end {type(error).__name__}")


def _trainer(*observers: rx.AbstractObserver, steps: int = 1) -> rx.EvosaxTrainer[Any]:
    return rx.EvosaxTrainer(
        steps, "SNES", rastrigin, jnp.ones(2), popsize=4, callbacks=observers
    )


def test_the_order_of_things() -> None:
    book = rx.Handle[list[str]]([])
    _trainer(Diary("a", diary=book), Diary("b", diary=book)).init_and_train(jr.key(0))
    assert book.value == [
        "a start",
        "b start",
        "a chunk",
        "b chunk",
        "b end NoneType",
        "a end NoneType",
    ]


@pytest.mark.parametrize("where", ["start", "chunk"])
def test_an_error_surfaces_as_itself(where: str) -> None:
    book = rx.Handle[list[str]]([])
    observers = (Diary("a", where, diary=book), Diary("b", diary=book))
    with pytest.raises(LookupError, match=f"a fails at {where}"):
        _trainer(*observers, steps=50).init_and_train(jr.key(0))
    assert book.value is not None
    assert "a end LookupError" in book.value
    assert ("b end LookupError" in book.value) == (where == "chunk")
    assert book.value.count("a chunk") == (1 if where == "chunk" else 0)


def test_an_error_at_the_end_ends_the_others() -> None:
    book = rx.Handle[list[str]]([])
    last = Diary("b", "end NoneType", diary=book)
    with pytest.raises(LookupError, match="b fails at end"):
        _trainer(Diary("a", diary=book), last).init_and_train(jr.key(0))
    assert book.value is not None and book.value[-1] == "a end NoneType"


def test_a_later_start() -> None:
    class Skip(rx.AbstractObserver):
        saves = True
        to: int = eqx.field(static=True)

        def restore(self, run: rx.Run, state: Any) -> Any:
            return eqx.tree_at(lambda s: s.step, state, jnp.asarray(self.to))

    state, data = _trainer(Skip(7), steps=10).init_and_train(jr.key(0))
    assert int(state.step) == 10
    assert data["metrics"]["fitness"].shape == (3, 4)
    state, data = _trainer(Skip(10), steps=10).init_and_train(jr.key(0))
    assert int(state.step) == 10
    assert data["metrics"]["fitness"].shape == (0, 4)


def test_a_forgotten_return() -> None:
    class Forgetful(rx.AbstractObserver):
        saves = True

        def restore(self, run: rx.Run, state: Any) -> Any:
            pass

    with pytest.raises(TypeError, match="`Forgetful.restore` must return"):
        _trainer(Forgetful()).init_and_train(jr.key(0))


def test_the_bar_knows_where_a_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    import tqdm.auto

    opened: list[Any] = []

    def tell(**kws: Any) -> Any:
        opened.append(kws)
        return tqdm.std.tqdm(**{**kws, "disable": True})

    monkeypatch.setattr(tqdm.auto, "tqdm", tell)

    class Skip(rx.AbstractObserver):
        saves = True

        def restore(self, run: rx.Run, state: Any) -> Any:
            return eqx.tree_at(lambda s: s.step, state, jnp.asarray(7))

    _trainer(Skip(), rx.ProgressBar(), steps=10).init_and_train(jr.key(0))
    assert (opened[0]["initial"], opened[0]["total"]) == (7, 10)
    with pytest.raises(ValueError, match="'mean_fitness'"):
        _trainer(rx.ProgressBar("mean_fitnes")).init_and_train(jr.key(0))


def test_notebooks_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from realax.training.observers._progress import _in_notebook

    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    assert not _in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert _in_notebook()
    shell.config.clear()
    assert not _in_notebook()


def test_keys_in_rows() -> None:
    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(x**2), {"key": key}

    bare, watched = (
        rx.EvosaxTrainer(
            5, "SNES", task, jnp.ones(2), popsize=4, callbacks=callbacks
        ).init_and_train(jr.key(0))
        for callbacks in ((), (rx.ProgressBar(),))
    )
    assert same(bare, watched)


def test_large_rows_fit() -> None:
    """Rows too large for one buffer are spread over more chunks, not over memory."""

    def task(x: Any, key: Any, data: Any = None) -> Any:
        return jnp.sum(x**2), jnp.ones((2**19,)) * x[0]

    class Look(rx.AbstractObserver):
        def on_chunk(self, steps: Any, selected: Any, state: Any) -> None:
            assert len(steps) <= 2

    trainer = rx.EvosaxTrainer(
        9, "SNES", task, jnp.ones(2), popsize=4, callbacks=Look()
    )
    _, data = trainer.init_and_train(jr.key(0))
    assert data["metrics"]["eval_data"].shape == (9, 4, 1, 2**19)


RUN = """
import signal, sys, time
import jax.numpy as jnp, jax.random as jr
import realax as rx

# A shell that starts tests in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def sphere(x, key, data=None):
    return jnp.sum(x**2), None

class Tell(rx.AbstractObserver):
    def on_chunk(self, steps, selected, state):
        print(steps[-1], flush=True)
    def on_end(self, state, error):
        print("end", type(error).__name__, flush=True)

steps = int(sys.argv[1])
trainer = rx.EvosaxTrainer(steps, "SNES", sphere, jnp.ones(2), popsize=8,
                           callbacks=(Tell(),) if "tell" in sys.argv else (),
                           progress_bar="bar" in sys.argv)
trainer.init_and_train_(jr.key(0))
print("done")
"""


def test_ctrl_c_within_a_chunk() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(10**8), "tell"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        if int(line) > 100:
            break
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert "end KeyboardInterrupt" in rest and "done" not in rest
    assert "KeyboardInterrupt" in errors
    assert process.returncode == -signal.SIGINT


def test_no_bar_without_a_terminal() -> None:
    result = python("-c", RUN, "200", "bar")
    assert result.stdout == "done\n"
    assert result.stderr == ""


def test_a_bar_in_a_terminal() -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "2000", "bar"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            read = os.read(master, 4096)
        except OSError:  # the terminal's other side is closed
            break
        if not read:
            break
        shown += read
    os.close(master)
    assert process.wait(60) == 0
    last = shown.decode().strip().split("\r")[-1]
    assert "2000/2000" in last and "100%" in last
    assert re.search(r"step/s", last) and "best_fitness=" in last


def test_old_ways_to_begin_elsewhere_are_refused() -> None:
    class Returns(rx.AbstractObserver):
        def on_start(self, run: rx.Run, state: Any) -> Any:
            return state

    with pytest.raises(TypeError, match=r"`Returns\.on_start` must return nothing"):
        _trainer(Returns()).init_and_train(jr.key(0))

    class Restores(rx.AbstractObserver):
        def restore(self, run: rx.Run, state: Any) -> Any:
            return state

    with pytest.raises(TypeError, match=r"`Restores\.restore` .*`saves = True`"):
        _trainer(Restores())
