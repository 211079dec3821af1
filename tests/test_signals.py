"""Ctrl-C and SIGTERM: while a run compiles, waits, and ends."""

import asyncio
import os
import pathlib
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import pytest

import realax as rx
from realax.training._signals import Signals, deferred_signals

from .helpers import ROOT, environment, rastrigin


@pytest.fixture(autouse=True)
def usual_handlers() -> Generator[None]:
    """A shell that starts tests in the background has Ctrl-C ignored."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, usual[number]) for number in usual}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


SCRIPT = """
import signal, sys, time
import jax, jax.monitoring, jax.numpy as jnp, jax.random as jr
import realax as rx

# A shell that starts tests in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
mode = sys.argv[1]

def listen(event, seconds, **kws):
    if event.endswith("jaxpr_to_mlir_module_duration") and "chunk" in kws["fun_name"]:
        print("compiling", flush=True)

def task(x, key, data=None):
    if mode != "end":
        # No run on this machine has left this program in the cache.
        x = x + (time.time_ns() % 10**9) / 1e9
        for i in range(300):
            x = jnp.sin(x * x[::-1] + i)
    return jnp.sum(x**2), None

class Slow(rx.AbstractObserver):
    def on_end(self, state, error):
        print("ending", type(error).__name__, flush=True)
        time.sleep(1.5 if mode == "end" else 0)
        print("ended", flush=True)

if mode == "interactive":
    sys.ps1 = ">>> "
if mode != "end":
    jax.monitoring.register_event_duration_secs_listener(listen)
trainer = rx.EvosaxTrainer(3, "SNES", task, jnp.ones(64), popsize=8, callbacks=[Slow()])
state = trainer.init_and_train_(jr.key(0))
print("result", int(state.step), flush=True)
signal.raise_signal(signal.SIGINT)
"""


class Process:
    """A script, the lines that it writes as they come, and signals to it."""

    def __init__(self, mode: str):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, mode],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines = {"out": queue.Queue[str](), "err": queue.Queue[str]()}
        self.threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, "out")),
            threading.Thread(target=self._read, args=(self.process.stderr, "err")),
        ]
        for thread in self.threads:
            thread.start()

    def _read(self, pipe: Any, name: str) -> None:
        for line in pipe:
            self.lines[name].put(line)

    def await_line(self, name: str, text: str, seconds: float) -> str:
        until = time.monotonic() + seconds
        seen = ""
        while text not in seen:
            try:
                seen += self.lines[name].get(timeout=until - time.monotonic())
            except (queue.Empty, ValueError):
                raise AssertionError(f"no {text!r} but {seen!r}") from None
        return seen

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, seconds: float) -> tuple[int, str, str]:
        code = self.process.wait(seconds)
        for thread in self.threads:
            thread.join()
        rest = {
            name: "".join(lines.get() for _ in range(lines.qsize()))
            for name, lines in self.lines.items()
        }
        return code, rest["out"], rest["err"]


@pytest.fixture
def start() -> Generator[Callable[[str], Process]]:
    processes: list[Process] = []

    def started(mode: str) -> Process:
        processes.append(Process(mode))
        return processes[-1]

    yield started
    for one in processes:
        one.process.kill()
        one.process.communicate()


def test_ctrl_c_while_it_compiles(start: Callable[[str], Process]) -> None:
    run = start("compile")
    run.await_line("out", "compiling", 60)
    time.sleep(0.3)
    run.send(signal.SIGINT)
    run.await_line("err", "Press Ctrl-C again to stop at once.", 3)
    assert run.process.poll() is None
    run.send(signal.SIGINT)
    code, out, err = run.end(4)
    assert code == 130
    assert "Ctrl-C again: the process stops at once" in err and "Traceback" not in err
    assert out == ""


def test_a_session_outlives_ctrl_c(start: Callable[[str], Process]) -> None:
    run = start("interactive")
    run.await_line("out", "compiling", 60)
    time.sleep(0.3)
    run.send(signal.SIGINT)
    run.await_line("err", "Press Ctrl-C again to stop at once.", 3)
    run.send(signal.SIGINT)
    run.await_line("err", "Ctrl-C again: the session is busy", 4)
    assert run.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_complete_run(number: int, start: Callable[[str], Process]) -> None:
    run = start("end")
    run.await_line("out", "ending NoneType", 60)
    run.send(number)
    code, out, err = run.end(15)
    assert out.startswith("ended\n")
    if number == signal.SIGTERM:
        assert (code, out, err) == (143, "ended\n", "")
        return
    assert out == "ended\nresult 3\n"
    assert "Ctrl-C: the run is complete and its observers are being ended." in err
    assert "Ctrl-C was ignored, because the run was already complete" in err
    # The one that the script sends itself, after the run.
    assert code == -signal.SIGINT and err.endswith("KeyboardInterrupt\n")


class Sender(rx.AbstractObserver):
    """Sends itself a signal where it is told to."""

    def on_end(self, state: Any, error: BaseException | None) -> None:
        signal.raise_signal(signal.SIGINT)
        if error is not None:
            raise LookupError from error


def _run(*observers: Any, steps: int = 2) -> Any:
    trainer = rx.EvosaxTrainer(
        steps, "SNES", rastrigin, jnp.ones(2), popsize=4, callbacks=observers
    )
    return trainer.init_and_train_(jr.key(0))


def _traces() -> tuple[Any, ...]:
    """What a run may not leave behind: handlers, descriptors, threads."""
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return (
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
        wakeup,
        len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0,
        threading.active_count(),
    )


def test_twice_while_observers_are_ended() -> None:
    def press() -> None:
        for _ in range(2):
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    with pytest.raises(KeyboardInterrupt), deferred_signals() as signals:
        signals.finish()
        thread.start()
        time.sleep(60)
    assert not thread.is_alive()


def test_the_result_survives(capfd: pytest.CaptureFixture[str]) -> None:
    before = _traces()
    assert int(_run(Sender()).step) == 2
    assert "the result is returned" in capfd.readouterr().err
    assert _traces() == before


def test_nothing_is_left_behind() -> None:
    _run(Sender())
    before = _traces()
    for _ in range(200):
        with deferred_signals() as signals:
            assert _traces() != before
        with pytest.raises(KeyboardInterrupt), deferred_signals() as signals:
            signal.raise_signal(signal.SIGINT)
            signals.answer()
    assert _traces() == before


def test_one_at_a_time() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), deferred_signals() as signals:
        signal.raise_signal(signal.SIGINT)
        reached = True
        signals.answer()
    assert reached
    with pytest.raises(SystemExit) as ended, deferred_signals() as signals:
        signal.raise_signal(signal.SIGTERM)
        signals.answer()
    assert ended.value.code == 143
    again = 0
    with pytest.raises(KeyboardInterrupt), deferred_signals() as signals:
        signal.raise_signal(signal.SIGINT)
        again = 1
        signal.raise_signal(signal.SIGINT)
        again = 2
    assert again == 1


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
)
def test_where_users_code_runs(number: int, error: type[BaseException]) -> None:
    passed: list[int] = []
    with pytest.raises(error), deferred_signals() as signals:
        with signals.waiting():
            passed.append(1)
        with signals.waiting():
            signal.raise_signal(number)
            passed.append(2)
    with pytest.raises(error), deferred_signals() as signals:
        signal.raise_signal(number)
        passed.append(3)
        with signals.waiting():  # it came just before
            passed.append(4)
    assert passed == [1, 3]


def test_an_error_does_not_swallow_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt) as raised, deferred_signals():
        signal.raise_signal(signal.SIGINT)
        raise LookupError
    assert isinstance(raised.value.__context__, LookupError)
    with pytest.raises(KeyboardInterrupt) as raised, deferred_signals() as signals:
        signals.finish()
        signal.raise_signal(signal.SIGINT)
        raise LookupError  # by an observer: there is no result to keep
    assert isinstance(raised.value.__context__, LookupError)


def test_handlers_of_the_users_own() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: got.append(number))
    try:
        traces = _traces()
        with deferred_signals() as signals:
            assert _traces()[2:] == traces[2:]
            signal.raise_signal(signal.SIGINT)
            signals.answer()
        assert got == [signal.SIGINT] and _traces() == traces
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_install_nothing() -> None:
    seen: list[Any] = []

    def look() -> None:
        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        with deferred_signals():
            inside = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
            seen.append((handlers == inside, threading.active_count()))

    count = threading.active_count()
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [(True, count + 1)]


@pytest.mark.skipif(sys.platform == "win32", reason="Event loops take none")
def test_an_event_loop_hears_its_own_signals() -> None:
    async def main() -> list[str]:
        heard: list[str] = []
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, lambda: heard.append("usr1"))
        try:
            with deferred_signals():
                os.kill(os.getpid(), signal.SIGUSR1)
            for _ in range(100):
                await asyncio.sleep(0.01)
                if heard:
                    break
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)
        return heard

    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(main()) == ["usr1"]
    finally:
        loop.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="The system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning")
@pytest.mark.parametrize("main", [True, False])
def test_a_forked_process_keeps_its_signals(main: bool) -> None:
    children: list[int] = []

    def fork() -> None:
        # Ctrl-C goes to all processes of a terminal, such as those that load data.
        child = os.fork()
        if child == 0:
            restored = signal.getsignal(signal.SIGINT) == signal.default_int_handler
            try:
                signal.raise_signal(signal.SIGINT)
                os._exit(1)
            except KeyboardInterrupt:
                os._exit(7 if restored else 2)
        children.append(child)

    first = False
    with pytest.raises(KeyboardInterrupt), deferred_signals() as signals:
        if main:
            fork()
        else:
            thread = threading.Thread(target=fork)
            thread.start()
            thread.join()
        _, status = os.waitpid(children[0], 0)
        assert os.waitstatus_to_exitcode(status) == 7
        signals.answer()  # nothing came here,
        signal.raise_signal(signal.SIGINT)
        first = True  # and the child's does not count
        signals.answer()
    assert first


def test_signals_that_python_was_too_busy_for() -> None:
    # Two that come while the main thread runs no Python are one call of the handler.
    missed = False
    with pytest.raises(KeyboardInterrupt), deferred_signals() as signals:
        wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wakeup)
        os.write(wakeup, bytes([signal.SIGINT]))
        signal.raise_signal(signal.SIGINT)
        missed = True
        signals.answer()
    assert not missed


def test_import_without_fork() -> None:
    code = (
        "import os, sys, signal; del os.register_at_fork; sys.platform = 'win32'; "
        f"exec(open({str(pathlib.Path(rx.__file__).parent / 'training/_signals.py')!r})"
        ".read(), {'__name__': 'signals'})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_a_wakeup_descriptor_comes_back() -> None:
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    before = signal.set_wakeup_fd(mouth.fileno())
    try:
        with deferred_signals() as signals:
            assert isinstance(signals, Signals)
            assert signal.set_wakeup_fd(-1) != mouth.fileno()
        assert signal.set_wakeup_fd(mouth.fileno()) == mouth.fileno()
    finally:
        signal.set_wakeup_fd(before)
        ear.close()
        mouth.close()
