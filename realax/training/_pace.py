"""The lengths of chunks, which depend on the clock and the signals of a process."""

import contextlib
import time
from collections.abc import Callable, Iterable

from .._check import no_type_check
from ._processes import AbstractProcesses
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
# Batches are gathered for this long even if the device is idle, so that several batches
# of a slow source share the cost of a call.
_GATHER_SECONDS = 0.05


class Pace:
    """Decides whether a chunk begins, how many steps it makes, and what is fetched.

    All of it depends on the signals and the clock of the process, of several processes
    on the clock of the first. Nothing of it changes a result, because the length of a
    chunk is an argument of the compiled program.

    **Arguments:**

    - `observers`: the observers, at the multiples of whose `every` chunks end.
    - `signals`: the pending signals.
    - `processes`: the processes of the run, which decide together.
    """

    def __init__(
        self,
        observers: Iterable[AbstractObserver],
        signals: Signals,
        processes: AbstractProcesses,
    ):
        self._signals = signals
        self._processes = processes
        self._periods = [one.every for one in observers if one.every is not None]
        self._fits = 1
        self._began = self._asked = 0.0
        self._slow = False

    @no_type_check
    def start(self, done: int, most: int) -> int:
        """Return the length of a chunk that starts now, and start the clock.

        **Arguments:**

        - `done`: the number of steps so far.
        - `most`: the largest possible length.

        **Raises:** `KeyboardInterrupt` or `SystemExit` if a signal is pending, here or
        on another process.
        """
        to_boundary = (every - done % every for every in self._periods)
        length = min((self._fits, most, MAX_STEPS, *to_boundary))
        length = self._processes.decide(done, length, self._signals)
        self._began = time.perf_counter()
        return length

    @no_type_check
    def stop(self, steps: int) -> None:
        """Adapt the length to the time of a chunk of `steps` steps, which ends now."""
        per_step = (time.perf_counter() - self._began) / steps
        fits = int(_CHUNK_SECONDS / max(per_step, 1e-9))  # a clock may stand still
        self._fits = max(1, min(fits, _GROWTH * steps))

    @no_type_check
    def user_code(self) -> contextlib.AbstractContextManager[None]:
        """Return a context to fetch batches, in which signals are raised at once."""
        return self._signals.user_code()

    @no_type_check
    def may_gather(self, busy: Callable[[], bool]) -> bool:
        """Return whether to fetch another batch before the next chunk.

        It is asked again after each fetch, and so knows how long that took.

        **Arguments:**

        - `busy`: returns whether the device still computes the last chunk.
        """
        now = time.perf_counter()
        if self._asked > self._began:  # a batch was fetched since
            self._slow = now - self._asked > _GATHER_SECONDS
        self._asked = now
        recent = now - self._began < _GATHER_SECONDS
        return (recent and not self._slow) or busy()
