"""Ctrl-C and SIGTERM, held back until a run can be interrupted and resumed."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Generator
from types import FrameType
from typing import Any

from ._listener import Listener


_CHUNK = (
    "Ctrl-C: the run ends after this chunk of steps, which takes a while if it is "
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
    "Ctrl-C again: the process stops at once, in the middle of a compilation or "
    "computation. The steps after the last checkpoint are lost."
)
_BUSY = (
    "Ctrl-C again: the session is busy compiling or computing, and the run stops as "
    "soon as that is done. To stop at once, end the session; its variables are lost."
)


@contextlib.contextmanager
def deferred_signals() -> Generator["Signals"]:
    """Hold back SIGINT and SIGTERM until the yielded object raises them.

    A second Ctrl-C is raised at once. The user's own handlers stay in place. In threads
    other than the main one nothing is done, because they receive no signals.
    """
    signals = Signals()
    failed = True
    try:
        signals.open()
        yield signals
        failed = False
    finally:
        signals.close()
        signals.raise_remaining(failed)


def acting_at_once() -> contextlib.AbstractContextManager[None]:
    """Return a context in which the signals of the run in progress are raised at once.

    For code on the host that may take long, or hang.
    """
    if _open and threading.current_thread() is threading.main_thread():
        return _open[-1].user_code()
    return contextlib.nullcontext()


class Signals:
    """The signals that arrive during a run, which are raised when it can end."""

    def __init__(self) -> None:
        self._pending: list[int] = []
        self._since = 0.0  # when the first of them was received
        self._handlers: dict[int, Any] = {}
        self._listener: Listener | None = None
        self._raised = False
        self._in_user_code = False
        self._finished = False
        self._closing = False

    def raise_pending(self) -> None:
        """Raise the pending signals.

        **Raises:** `KeyboardInterrupt`, or `SystemExit` with the code of a process that
        ended by SIGTERM.
        """
        self._raised = self._raised or bool(self._pending)
        if signal.SIGINT in self._pending:
            raise KeyboardInterrupt
        if signal.SIGTERM in self._pending:
            raise SystemExit(128 + signal.SIGTERM)

    def raise_as_if(self, number: int) -> None:
        """Raise a signal that some process of the run has received.

        **Arguments:**

        - `number`: the number of the signal.

        **Raises:** as `raise_pending`.
        """
        self._raised = True
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    @property
    def first(self) -> int | None:
        """The number of the first pending signal, or `None`."""
        return self._pending[0] if self._pending else None

    @property
    def pending_seconds(self) -> float:
        """For how long a signal has been pending; 0 if none is."""
        return time.monotonic() - self._since if self._pending else 0.0

    def finish(self) -> None:
        """Record that the run has its result, which Ctrl-C must not discard."""
        self._finished = True

    @contextlib.contextmanager
    def user_code(self) -> Generator[None]:
        """Open a context for the user's code, in which signals are raised at once."""
        self._in_user_code = True
        try:
            self.raise_pending()
            yield
        finally:
            self._in_user_code = False

    def open(self) -> None:
        """Install the handlers, in the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            return
        _open.append(self)
        for number, default in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, signal.SIG_DFL),
        ):
            if signal.getsignal(number) == default:
                self._handlers[number] = signal.signal(number, self._handle)
        # Started last, because a Ctrl-C before the handlers would leave it open.
        if signal.SIGINT in self._handlers:
            self._listener = Listener(self._announce, self._stop)

    def close(self, forked: bool = False) -> None:
        """Restore the handlers. A forked process has no listener thread to end."""
        self._closing = True
        if self._listener is not None:
            self._listener.close(forked)
            self._listener = None
        # SIGINT is last, because from then on it is raised immediately, here too.
        for number in reversed(list(self._handlers)):
            signal.signal(number, self._handlers.pop(number))
        if self in _open:
            _open.remove(self)

    def raise_remaining(self, failed: bool) -> None:
        """Raise the signals that are still pending after the end of the run."""
        if self._raised or not self._pending:
            return
        if failed or not self._finished:
            signal.raise_signal(self._pending[0])
            return
        if signal.SIGINT in self._pending:
            say(_COMPLETE)
            self._pending = [n for n in self._pending if n != signal.SIGINT]
        self.raise_pending()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._pending:
            self._since = time.monotonic()
        self._pending.append(number)
        if self._closing:
            return
        if number == signal.SIGINT:
            # Python calls the handler once for all signals since it last could.
            count = self._pending.count(number)
            if self._listener is not None:
                count = self._listener.mark_handled(count)
            if count > 1:
                self._raised = True
                signal.default_int_handler(number, frame)
        if self._in_user_code:
            self.raise_pending()

    def _announce(self) -> None:
        if not (self._in_user_code or self._raised or self._closing):
            say(_ENDING if self._finished else _CHUNK)

    def _stop(self) -> None:
        if self._closing:
            return
        # A shell or a notebook has other work to lose; IPython sets `ps1` in both.
        if hasattr(sys, "ps1") or sys.flags.interactive:
            say(_BUSY)
            return
        say(_STOPPED)
        if sys.stdout:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
        os._exit(128 + signal.SIGINT)


# The objects of the main thread whose handlers are installed.
_open: list[Signals] = []


def say(text: str) -> None:
    """Print a line to stderr, below a prompt or progress bar, and flush it."""
    if sys.stderr:
        with contextlib.suppress(OSError, ValueError):
            start = "\n" if sys.stderr.isatty() else ""
            print(f"{start}{text}", file=sys.stderr, flush=True)


def _close_after_fork() -> None:
    """Close the listeners in a forked process, which share the parent's socket."""
    for signals in reversed(_open.copy()):
        signals.close(forked=True)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_close_after_fork)
