"""A thread that notices Ctrl-C while the main thread runs compiled code."""

import contextlib
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable


# The time that Python has to handle a second Ctrl-C before it counts as stuck.
_PATIENCE_SECONDS = 0.5


class Listener:
    """A thread that receives signals through the wakeup descriptor of Python.

    **Arguments:**

    - `on_first`: called when the first SIGINT arrives.
    - `on_stuck`: called when the main thread does not handle a further one in time.
    """

    def __init__(self, on_first: Callable[[], None], on_stuck: Callable[[], None]):
        self._on_first, self._on_stuck = on_first, on_stuck
        self._received = self._handled = 0
        self._ended = False
        # Reentrant, because the handler of one signal can interrupt that of another.
        self._lock = threading.RLock()
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._previous = -1
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self._previous = signal.set_wakeup_fd(self._sender.fileno())

    def mark_handled(self, least: int) -> int:
        """Return how many SIGINT arrived, at least `least`, and mark them as handled.

        Signals that this thread has not read yet, because Python was busy, count too.
        """
        with self._lock:
            unread = b""
            with contextlib.suppress(BlockingIOError):
                unread = self._receiver.recv(4096, socket.MSG_PEEK)
            count = max(least, self._received + unread.count(signal.SIGINT))
            self._handled = max(self._handled, count)
            return count

    def close(self, forked: bool) -> None:
        """Restore the wakeup descriptor, and end the thread unless it was `forked`."""
        signal.set_wakeup_fd(self._previous)
        if not forked:
            self._ended = True
            # A full socket wakes the thread as well.
            with contextlib.suppress(BlockingIOError):
                self._sender.send(b"\0")
            self._thread.join()
        self._receiver.close()
        self._sender.close()

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._receiver, selectors.EVENT_READ)
            while True:
                selector.select()
                with self._lock:
                    numbers = self._receiver.recv(4096)
                    before = self._received
                    self._received += numbers.count(signal.SIGINT)
                self._forward(numbers.replace(b"\0", b""))
                if before == 0 and self._received > 0:
                    self._on_first()
                if self._received > max(1, before) and not self._all_handled():
                    self._on_stuck()
                if self._ended:
                    return

    def _all_handled(self) -> bool:
        """Return whether the main thread handles all received SIGINT in time."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while self._handled < self._received and time.monotonic() < until:
            time.sleep(0.01)
        return self._handled >= self._received

    def _forward(self, numbers: bytes) -> None:
        """Pass signals on to an event loop that listened before."""
        # On Windows the descriptor is a socket, which `os` cannot write to.
        if self._previous != -1 and sys.platform != "win32":
            with contextlib.suppress(OSError):
                os.write(self._previous, numbers)
