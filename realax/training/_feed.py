"""The sources of the data of a run."""

import abc
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Int

from .._types import Tree


class Data(eqx.Module):
    """The data of a chunk of steps.

    - `tree`: the data of every step, or the stacked batches of a stream.
    - `start`: the index of the first batch; `None` if every step has all data.
    """

    tree: Tree
    start: Int[Array, ""] | np.int32 | None

    def of_step(self, i: Any) -> Tree:
        """Return the data of the chunk's step `i`."""
        if self.start is None:
            return self.tree
        return jax.tree.map(lambda leaf: leaf[self.start + i], self.tree)


class AbstractFeed(abc.ABC):
    """A source of the data of each step of a run."""

    @property
    @abc.abstractmethod
    def left(self) -> int:
        """The number of steps for which the result of `data` suffices."""

    @abc.abstractmethod
    def prepare(self, skip: int, steps: int) -> None:
        """Skip the data of `skip` steps, and prepare those of the next `steps`."""

    @abc.abstractmethod
    def ready(self) -> bool:
        """Return whether there are data for another step."""

    @abc.abstractmethod
    def data(self) -> Data:
        """Return the data of the next chunk, on the device."""

    @abc.abstractmethod
    def used(self, steps: int) -> None:
        """Record that a chunk of `steps` steps was computed."""

    @abc.abstractmethod
    def look_ahead(self, busy: Callable[[], bool]) -> None:
        """Prepare more data while the device is `busy`."""

    @abc.abstractmethod
    def example(self) -> Tree:
        """Return the data of one step, whose shapes are needed."""


@final
class Constant(AbstractFeed):
    """The same data in each step."""

    def __init__(self, tree: Tree):
        self._tree = tree

    @property
    def left(self) -> int:
        """A number larger than the steps of any run."""
        return 2**31

    def prepare(self, skip: int, steps: int) -> None:
        """Do nothing, because all data are available."""
        del skip, steps

    def ready(self) -> bool:
        """Return True."""
        return True

    def data(self) -> Data:
        """Return all data."""
        return Data(self._tree, None)

    def used(self, steps: int) -> None:
        """Do nothing, because the data are used again."""
        del steps

    def look_ahead(self, busy: Callable[[], bool]) -> None:
        """Do nothing, because all data are available."""
        del busy

    def example(self) -> Tree:
        """Return all data."""
        return self._tree
