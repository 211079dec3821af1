"""Ctrl-C and SIGTERM, answered where a run can be interrupted and resumed."""

import contextlib
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any


# How long Python may take to act on a second Ctrl-C before it counts as stuck.
_PATIENCE_SECONDS = 0.5

_CHUNK = (
    "Ctrl-C: the run ends after this chunk of steps, which takes a while where it is "
    "still being compiled. Press Ctrl-C again to stop at once."
)
_ENDING = (
    "Ctrl-C: the run is complete and its observers are being ended. Press Ctrl-C again "
    "to stop at once, without its result."
)
_COMPLETE = (
    "Ctrl-C was ignored, because the run was already complete: its result is returned."
)
_STOPPED = (
    "Ctrl-C again: the process stops at once, in the middle of what it is compiling or "
    "computing. What came after the last checkpoint is lost."
)
_BUSY = (
    "Ctrl-C again: the session is busy compiling or computing, and the run stops as "
    "soon as that is done. To stop at once, end the session, with all that it holds."
)


@contextlib.contextmanager
def deferred_signals() -> Generator["Signals"]:
    """Hold back SIGINT and SIGTERM until the yielded object answers them.

    A second Ctrl-C does not wait. Handlers of the user's own are left alone, and so are
    threads other than the main one, which get no signals.
    """
    signals = Signals()
    failed = True
    try:
        signals.open()
        yield signals
        failed = False
    finally:
        signals.close()
        signals.pass_on(failed)


class Signals:
    """The signals of a run: which ones are pending, and when they are raised."""

    def __init__(self) -> None:
        self._pending: list[int] = []
        self._before: dict[int, Any] = {}
        self._listener: _Listener | None = None
        self._raised = False
        self._waiting = False
        self._finished = False
        self._closing = False

    def answer(self) -> None:
        """Raise the pending signals.

        **Raises:** `KeyboardInterrupt`, or `SystemExit` with the code of a process that
        ended by SIGTERM.
        """
        self._raised = self._raised or bool(self._pending)
        if signal.SIGINT in self._pending:
            raise KeyboardInterrupt
        if signal.SIGTERM in self._pending:
            raise SystemExit(128 + signal.SIGTERM)

    def finish(self) -> None:
        """Note that the run has its result, which Ctrl-C must not take away."""
        self._finished = True

    @contextlib.contextmanager
    def waiting(self) -> Generator[None]:
        """Open a context where the user's code runs and signals are raised at once."""
        self._waiting = True
        try:
            self.answer()
            yield
        finally:
            self._waiting = False

    def open(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        _open.append(self)
        for number, default in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, signal.SIG_DFL),
        ):
            if signal.getsignal(number) == default:
                self._before[number] = signal.signal(number, self._handle)
        # Only now, because a Ctrl-C in between would leave it open.
        if signal.SIGINT in self._before:
            self._listener = _Listener(self._first, self._stuck)

    def close(self, forked: bool = False) -> None:
        """Restore the handlers. A forked process has no listening thread to end."""
        self._closing = True
        if self._listener is not None:
            self._listener.close(forked)
            self._listener = None
        # SIGINT last: from then on it is raised, here too.
        for number in reversed(list(self._before)):
            signal.signal(number, self._before.pop(number))
        if self in _open:
            _open.remove(self)

    def pass_on(self, failed: bool) -> None:
        """Raise the signals that were not answered, now that the run has ended."""
        if self._raised or not self._pending:
            return
        if failed or not self._finished:
            signal.raise_signal(self._pending[0])
            return
        if signal.SIGINT in self._pending:
            _say(_COMPLETE)
            self._pending = [n for n in self._pending if n != signal.SIGINT]
        self.answer()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._pending.append(number)
        if self._closing:
            return
        if number == signal.SIGINT:
            # Python calls once for signals that came while it could not.
            count = self._pending.count(number)
            if self._listener is not None:
                count = self._listener.acted(count)
            if count > 1:
                self._raised = True
                signal.default_int_handler(number, frame)
        if self._waiting:
            self.answer()

    def _first(self) -> None:
        if not (self._waiting or self._raised or self._closing):
            _say(_ENDING if self._finished else _CHUNK)

    def _stuck(self) -> None:
        if self._closing:
            return
        # A shell or a notebook (IPython sets `ps1` in both) holds more than this run.
        if hasattr(sys, "ps1") or sys.flags.interactive:
            _say(_BUSY)
            return
        _say(_STOPPED)
        if sys.stdout:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
        os._exit(128 + signal.SIGINT)


class _Listener:
    """A thread that notices Ctrl-C while the main one is inside compiled code."""

    def __init__(self, first: Callable[[], None], stuck: Callable[[], None]):
        self._first, self._stuck = first, stuck
        self._heard = self._acted = 0
        self._ended = False
        # Entered again where one signal's handler interrupts another's.
        self._lock = threading.RLock()
        self._ear, self._mouth = socket.socketpair()
        self._ear.setblocking(False)
        self._mouth.setblocking(False)
        self._previous = -1
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self._previous = signal.set_wakeup_fd(self._mouth.fileno())

    def acted(self, least: int) -> int:
        """Return how many SIGINT arrived, at least `least`, for the main thread.

        Those that this thread has not read yet, because Python was busy, count too.
        """
        with self._lock:
            unread = b""
            with contextlib.suppress(BlockingIOError):
                unread = self._ear.recv(4096, socket.MSG_PEEK)
            count = max(least, self._heard + unread.count(signal.SIGINT))
            self._acted = max(self._acted, count)
            return count

    def close(self, forked: bool) -> None:
        signal.set_wakeup_fd(self._previous)
        if not forked:
            self._ended = True
            with contextlib.suppress(BlockingIOError):  # then it has enough to read
                self._mouth.send(b"\0")
            self._thread.join()
        self._ear.close()
        self._mouth.close()

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._ear, selectors.EVENT_READ)
            while True:
                selector.select()
                with self._lock:
                    numbers = self._ear.recv(4096)
                    before = self._heard
                    self._heard += numbers.count(signal.SIGINT)
                self._tell_previous(numbers.replace(b"\0", b""))
                if before == 0 and self._heard > 0:
                    self._first()
                if self._heard > max(1, before) and not self._acts():
                    self._stuck()
                if self._ended:
                    return

    def _acts(self) -> bool:
        """Return whether the main thread sees all SIGINT that were heard."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while self._acted < self._heard and time.monotonic() < until:
            time.sleep(0.01)
        return self._acted >= self._heard

    def _tell_previous(self, numbers: bytes) -> None:
        """Pass signals on to an event loop that listened before."""
        # Windows has sockets there, which `os` can not write to, and no such signals.
        if self._previous != -1 and sys.platform != "win32":
            with contextlib.suppress(OSError):
                os.write(self._previous, numbers)


# Those of the main thread that hold handlers.
_open: list[Signals] = []


def _say(text: str) -> None:
    """Print a line on stderr at once, below what a terminal or a bar shows there."""
    if sys.stderr:
        with contextlib.suppress(OSError, ValueError):
            start = "\n" if sys.stderr.isatty() else ""
            print(f"{start}{text}", file=sys.stderr, flush=True)


def _forget() -> None:
    """Close the listeners of a forked process, which share the parent's socket."""
    for signals in reversed(_open.copy()):
        signals.close(forked=True)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget)
