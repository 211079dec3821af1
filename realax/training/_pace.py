"""The lengths of chunks, which depend on the clock and the signals of a process."""

import time
from collections.abc import Iterable

from ._signals import Signals
from .observers import AbstractObserver


# The intended duration of a chunk, after which Ctrl-C and observers can act.
_CHUNK_SECONDS = 0.3
# The first chunk also compiles, so that its time is too long. Lengths grow at most by
# this factor.
_GROWTH = 8
# The rows of a chunk are written into buffers of a fixed size, so that chunks of every
# length share one compilation. This is the largest number of steps.
MAX_STEPS = 4096


class Pace:
    """Decides before each chunk whether it begins, and how many steps it makes.

    Both depend on the signals and the clock of the process. Neither changes a result,
    because the length of a chunk is an argument of the compiled program. A `Stream`
    gathers batches by a clock of its own, which only limits the `most` of a length.

    **Arguments:**

    - `observers`: the observers, at the multiples of whose `every` chunks end.
    - `signals`: the pending signals.
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
        - `most`: the largest possible length.

        **Raises:** `KeyboardInterrupt` or `SystemExit` if a signal is pending.
        """
        self._signals.raise_pending()
        to_boundary = (every - done % every for every in self._periods)
        length = min((self._fits, most, MAX_STEPS, *to_boundary))
        self._began = time.perf_counter()
        return length

    def stop(self, steps: int) -> None:
        """Adapt the length to the time of a chunk of `steps` steps, which ends now."""
        per_step = (time.perf_counter() - self._began) / steps
        fits = int(_CHUNK_SECONDS / max(per_step, 1e-9))  # a clock may stand still
        self._fits = max(1, min(fits, _GROWTH * steps))
