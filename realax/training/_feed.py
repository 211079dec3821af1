"""The data of each step of a run."""

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

    - `tree`: the data of each step; of a stream, batches with a leading axis.
    - `start`: which of the batches is the first; `None` where each step has all.
    """

    tree: Tree
    start: Int[Array, ""] | np.int32 | None

    def of_step(self, i: Any) -> Tree:
        """Return the data of the chunk's step `i`."""
        if self.start is None:
            return self.tree
        return jax.tree.map(lambda leaf: leaf[self.start + i], self.tree)


class AbstractFeed(abc.ABC):
    """The data of each step of a run."""

    @property
    @abc.abstractmethod
    def left(self) -> int:
        """The number of steps for which `data` suffices."""

    @abc.abstractmethod
    def begin(self, skip: int, steps: int) -> None:
        """Leave out the data of `skip` steps, and prepare those of `steps` more."""

    @abc.abstractmethod
    def ready(self) -> bool:
        """Return whether there are data for another step."""

    @abc.abstractmethod
    def data(self) -> Data:
        """Return the data of the next chunk, on the device."""

    @abc.abstractmethod
    def used(self, steps: int) -> None:
        """Take note that a chunk of `steps` steps was computed."""

    @abc.abstractmethod
    def look_ahead(self, busy: Callable[[], bool]) -> None:
        """Prepare more data while the device is `busy`."""

    @abc.abstractmethod
    def example(self) -> Tree:
        """Return the data of one step, for their shapes."""


@final
class Constant(AbstractFeed):
    """The same data in each step."""

    def __init__(self, tree: Tree):
        self._tree = tree

    @property
    def left(self) -> int:
        """More than the steps of any run."""
        return 2**31

    def begin(self, skip: int, steps: int) -> None:
        """Do nothing: all data are there."""
        del skip, steps

    def ready(self) -> bool:
        """Return True."""
        return True

    def data(self) -> Data:
        """Return all data."""
        return Data(self._tree, None)

    def used(self, steps: int) -> None:
        """Do nothing: the data are not used up."""
        del steps

    def look_ahead(self, busy: Callable[[], bool]) -> None:
        """Do nothing: all data are there."""
        del busy

    def example(self) -> Tree:
        """Return all data."""
        return self._tree
