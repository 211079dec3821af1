"""A thread that ends a process which waits for others in vain."""

import contextlib
import faulthandler
import math
import os
import sys
import threading
import time
from collections.abc import Generator

import jax

from ._initialize import settings


# How often the thread looks.
_SECONDS = 0.5


class Watchdog:
    """Ends the process if the processes of a run are without agreement for too long.

    jax notices processes that are gone, but not those that stand still: the others
    would wait for ever, in compiled code that no signal can interrupt.
    """

    def __init__(self) -> None:
        self._limit = math.inf
        self._allowed = settings.stall
        self._closed = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Generator[None]:
        """Open a context in which it watches."""
        self.reset()
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            yield
        finally:
            self._closed.set()

    def reset(self, seconds: float | None = None) -> None:
        """Record that all processes agree at this moment.

        **Arguments:**

        - `seconds`: how long they may be without agreement from now on; by default the
            `stall` of `initialize_hosts`.
        """
        self._allowed = settings.stall if seconds is None else seconds
        self._limit = time.monotonic() + self._allowed

    def pause(self) -> None:
        """Allow any time until the next agreement."""
        self._limit = math.inf

    def _watch(self) -> None:
        while not self._closed.wait(_SECONDS):
            if time.monotonic() > self._limit:
                self._end()

    def _end(self) -> None:
        output = sys.__stderr__
        if output is not None:
            print(
                f"process {jax.process_index()}: there was no agreement between the "
                f"processes for {self._allowed:g} seconds. One of them stands still; "
                "or a chunk takes longer, and needs a larger `stall` of "
                "`rx.initialize_hosts`. This one ends, and these are its stacks.",
                file=output,
                flush=True,
            )
            faulthandler.dump_traceback(output, all_threads=True)
            output.flush()
        os._exit(1)
