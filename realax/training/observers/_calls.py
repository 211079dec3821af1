"""The calls of `train` that a folder of checkpoints records."""

from collections.abc import Mapping
from typing import Any


class Calls:
    """The steps at which calls of `train` began and ended.

    With them, a script of several calls can be run again.

    - `ends`: maps the step at which a call began to the step at which it ended and the
        one at which it was requested to end. The first is smaller after early stopping
        or at the end of a stream.
    - `states`: maps each of those steps to a digest of the state.
    """

    def __init__(self, meta: Mapping[str, Any] | None = None):
        meta = {} if meta is None else meta
        ends, states = meta.get("ends", {}), meta.get("states", {})
        self.ends: dict[int, list[int]] = {int(k): v for k, v in ends.items()}
        self.states: dict[int, str] = {int(k): v for k, v in states.items()}

    def meta(self) -> dict[str, Any]:
        """Return the entries of a file that hold the calls."""
        return {"ends": self.ends, "states": self.states}

    def open_call(self, step: int, digest: str) -> None:
        """Record that a call begins at `step`, where the one before it ended."""
        self.states[step] = digest
        before = [start for start in self.ends if start < step]
        if before and step not in self._chain():
            self.ends[max(before)] = [step, step]

    def end_of(self, start: int, requested: int) -> int | None:
        """Return the step at which the call from `start` to `requested` has ended.

        It is `None` if no such call has ended.
        """
        end, wanted = self.ends.get(start, (None, None))
        return end if wanted == requested else None

    def resume(self, start: int) -> None:
        """Record that the call from `start` makes a step, and so has not ended."""
        self.ends.pop(start, None)

    def end(self, start: int, step: int, requested: int, digest: str) -> None:
        """Record that the call from `start` ends at `step`.

        Calls that no longer follow one another are forgotten.
        """
        self.ends[start] = [step, requested]
        self.states[step] = digest
        chain = self._chain()
        self.ends = {k: v for k, v in self.ends.items() if k in chain}
        self.states = {k: v for k, v in self.states.items() if k in chain}

    def steps(self) -> set[int]:
        """Return the steps at which calls have ended."""
        return {end for end, _ in self.ends.values()}

    def _chain(self) -> set[int]:
        """Return the steps that are reached from the first one, call by call."""
        step, found = min(self.ends, default=None), set[int]()
        while step is not None and step not in found:
            found.add(step)
            step = self.ends.get(step, (None, None))[0]
        return found
