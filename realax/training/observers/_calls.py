"""Which calls of `train` a folder of checkpoints has seen."""

from collections.abc import Mapping
from typing import Any


class Calls:
    """Where calls of `train` began and ended, so that a script of several is run again.

    - `ends`: for the step at which a call began, the one at which it ended and the one
        at which it was to end: sooner by early stopping, or by the end of a stream.
    - `states`: for each of those steps a digest of the state.
    """

    def __init__(self, meta: Mapping[str, Any] | None = None):
        meta = {} if meta is None else meta
        ends, states = meta.get("ends", {}), meta.get("states", {})
        self.ends: dict[int, list[int]] = {int(k): v for k, v in ends.items()}
        self.states: dict[int, str] = {int(k): v for k, v in states.items()}

    def meta(self) -> dict[str, Any]:
        """What a file holds of them."""
        return {"ends": self.ends, "states": self.states}

    def begin(self, step: int, digest: str) -> None:
        """A call begins at `step`: there the one before it has ended."""
        self.states[step] = digest
        before = [start for start in self.ends if start < step]
        if before and step not in self._chain():
            self.ends[max(before)] = [step, step]

    def end_of(self, start: int, asked: int) -> int | None:
        """Where the call from `start` to `asked` has ended, if it has."""
        end, wanted = self.ends.get(start, (None, None))
        return end if wanted == asked else None

    def go_on(self, start: int) -> None:
        """The call from `start` makes a step, and has not ended."""
        self.ends.pop(start, None)

    def end(self, start: int, step: int, asked: int, digest: str) -> None:
        """The call from `start` ends. Calls that no longer follow each other go."""
        self.ends[start] = [step, asked]
        self.states[step] = digest
        chain = self._chain()
        self.ends = {k: v for k, v in self.ends.items() if k in chain}
        self.states = {k: v for k, v in self.states.items() if k in chain}

    def steps(self) -> set[int]:
        """The steps at which calls have ended."""
        return {end for end, _ in self.ends.values()}

    def _chain(self) -> set[int]:
        """The steps that are reached from the first one, call by call."""
        step, found = min(self.ends, default=None), set[int]()
        while step is not None and step not in found:
            found.add(step)
            step = self.ends.get(step, (None, None))[0]
        return found
