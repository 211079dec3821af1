"""Lengths of chunks and signals: all that differs between two processes of a run."""

import time
from collections.abc import Iterable

from ._signals import Signals
from .observers import AbstractObserver


# How long a chunk is to take, in seconds: how soon Ctrl-C and observers act.
_CHUNK_SECONDS = 0.3
# The first chunk also compiles, and its time says little: lengths grow by this factor.
_GROWTH = 8
# A chunk's rows are written into buffers of a fixed size, so that chunks of every
# length share one compilation: at most so many steps.
MAX_STEPS = 4096


class Pace:
    """Decides before each chunk whether it begins, and how many steps it makes.

    Both depend on the process: on its signals and its clock. Neither changes a result,
    because the length of a chunk is an argument of the compiled program.

    **Arguments:**

    - `observers`: chunks end at the multiples of their `every`.
    - `signals`: those that wait for an answer.
    """

    def __init__(self, observers: Iterable[AbstractObserver], signals: Signals):
        self._signals = signals
        self._periods = [one.every for one in observers if one.every is not None]
        self._fits = 1
        self._began = 0.0

    def start(self, done: int, most: int) -> int:
        """Return the length of a chunk that starts now, and start the clock.

        **Arguments:**

        - `done`: the number of steps so far.
        - `most`: the number of steps that can be made at most.

        **Raises:** `KeyboardInterrupt` or `SystemExit` where a signal waits.
        """
        self._signals.answer()
        to_boundary = (every - done % every for every in self._periods)
        length = min((self._fits, most, MAX_STEPS, *to_boundary))
        self._began = time.perf_counter()
        return length

    def stop(self, steps: int) -> None:
        """Learn from a chunk of `steps` steps, which ends now."""
        per_step = (time.perf_counter() - self._began) / steps
        fits = int(_CHUNK_SECONDS / max(per_step, 1e-9))  # a clock may stand still
        self._fits = max(1, min(fits, _GROWTH * steps))
