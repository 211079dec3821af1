"""The sources of the data of a run."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, final

import equinox as eqx

from .._types import Tree
from ._pace import MAX_STEPS, Pace


class AbstractData(eqx.Module):
    """The data of a chunk of steps.

    - `most`: the largest number of steps of a chunk.
    """

    most: ClassVar[int] = MAX_STEPS

    @abc.abstractmethod
    def of_step(self, i: Any) -> Tree:
        """Return the data of the chunk's step `i`."""


class AbstractFeed(abc.ABC):
    """A source of the data of each step of a run.

    - `needs_host`: whether the host provides data during the run.
    - `under_trace`: for a source that needs the host, a sentence that begins "where",
        why it cannot be used in a run that is traced, with the remedy.
    """

    needs_host: ClassVar[bool]
    under_trace: ClassVar[str] = ""

    @abc.abstractmethod
    def prepare(self, pace: Pace, skip: int, steps: int) -> None:
        """Prepare the data of a run. It is called once, before all methods below.

        **Arguments:**

        - `pace`: decides when more data are prepared.
        - `skip`: the number of steps whose data a restored run has used.
        - `steps`: the number of steps after them.
        """

    @property
    @abc.abstractmethod
    def left(self) -> int:
        """The number of steps for which the result of `data` suffices."""

    @abc.abstractmethod
    def ready(self) -> bool:
        """Return whether there are data for another step."""

    @abc.abstractmethod
    def data(self, state: Any) -> AbstractData:
        """Return the data of the next chunk, on the device.

        **Arguments:**

        - `state`: the state before the chunk.
        """

    @abc.abstractmethod
    def used(self, steps: int) -> None:
        """Record that a chunk of `steps` steps was computed."""

    @abc.abstractmethod
    def look_ahead(self, state: Any, busy: Callable[[], bool]) -> None:
        """Prepare more data while the device is `busy`.

        **Arguments:**

        - `state`: the state before the next chunk, which the device still computes.
        - `busy`: returns whether it does.
        """

    @abc.abstractmethod
    def example(self, state: Any) -> Tree:
        """Return the data of one step, whose shapes are needed.

        **Arguments:**

        - `state`: the state after the run.
        """


@final
class _All(AbstractData):
    tree: Tree

    def of_step(self, i: Any) -> Tree:
        del i
        return self.tree


@final
class Constant(AbstractFeed):
    """The same data in each step."""

    needs_host = False

    def __init__(self, tree: Tree):
        self._tree = tree

    def prepare(self, pace: Pace, skip: int, steps: int) -> None:
        """Do nothing, because all data are available."""
        del pace, skip, steps

    @property
    def left(self) -> int:
        """A number larger than the steps of any run."""
        return 2**31

    def ready(self) -> bool:
        """Return True."""
        return True

    def data(self, state: Any) -> _All:
        """Return all data."""
        del state
        return _All(self._tree)

    def used(self, steps: int) -> None:
        """Do nothing, because the data are used again."""
        del steps

    def look_ahead(self, state: Any, busy: Callable[[], bool]) -> None:
        """Do nothing, because all data are available."""
        del state, busy

    def example(self, state: Any) -> Tree:
        """Return all data."""
        del state
        return self._tree
