"""The processes of a run: one alone, or several that decide together."""

import abc
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, final

from .._check import no_type_check
from .._types import Tree
from ._signals import Signals


class AbstractProcesses(abc.ABC):
    """The processes of a run, each of which makes the same calls in the same order.

    - `leads`: whether the host's part of observers is run by this process.
    """

    leads: bool

    @abc.abstractmethod
    def watched(self) -> contextlib.AbstractContextManager[None]:
        """Return a context for a whole run, in which the others learn of its errors."""

    @abc.abstractmethod
    def agree(
        self, trainer: Any, inputs: Tree, about: Mapping[str, Any], streamed: bool
    ) -> Tree:
        """Refuse a run that processes begin differently, or cannot make together.

        **Arguments:**

        - `trainer`: the trainer.
        - `inputs`: the state, the key and the data of the run, by name.
        - `about`: what else determines the run, by name.
        - `streamed`: whether its data are a stream of batches.

        **Returns:** `inputs` with arrays that this process can read.

        **Raises:** `ValueError` that names what differs, or what is refused.
        """

    @abc.abstractmethod
    def readable(self, tree: Tree) -> Tree:
        """Return a tree with arrays that this process can read."""

    @abc.abstractmethod
    def by_first(self, function: Callable[[], None]) -> None:
        """Call a function on the process that leads. Its error ends the run on all."""

    @abc.abstractmethod
    def from_first(self, function: Callable[[], Tree], like: Tree) -> Tree:
        """Return what a function returns on the process that leads.

        **Arguments:**

        - `function`: returns `like`, or a tree of the same types.
        - `like`: a tree that every process has.
        """

    @abc.abstractmethod
    def decide(self, done: int, steps: int, signals: Signals) -> int:
        """Return the length of the next chunk, or end the run.

        **Arguments:**

        - `done`: the number of steps so far.
        - `steps`: the length by the clock of this process.
        - `signals`: the signals that it has received.

        **Raises:** `KeyboardInterrupt` or `SystemExit` after a signal, `PeerError` if
        another process raised an error, is gone, or is elsewhere.
        """

    @abc.abstractmethod
    def together(self, signals: Signals) -> contextlib.AbstractContextManager[None]:
        """Return a context for an observed run, at whose end all processes meet."""

    @abc.abstractmethod
    def computing(
        self, *, whole: bool = False
    ) -> contextlib.AbstractContextManager[None]:
        """Return a context for a compiled program, in which processes exchange data.

        **Arguments:**

        - `whole`: whether it makes a whole run, whose duration is not known.

        **Raises:** `PeerError` if another process is gone.
        """


@final
@no_type_check  # several of its methods are called for each chunk
class OneProcess(AbstractProcesses):
    """The process of a run that is alone."""

    leads = True

    def watched(self) -> contextlib.AbstractContextManager[None]:
        """Return a context that does nothing."""
        return contextlib.nullcontext()

    def agree(
        self, trainer: Any, inputs: Tree, about: Mapping[str, Any], streamed: bool
    ) -> Tree:
        """Return the inputs."""
        del trainer, about, streamed
        return inputs

    def readable(self, tree: Tree) -> Tree:
        """Return the tree."""
        return tree

    def by_first(self, function: Callable[[], None]) -> None:
        """Call the function."""
        function()

    def from_first(self, function: Callable[[], Tree], like: Tree) -> Tree:
        """Return what the function returns."""
        del like
        return function()

    def decide(self, done: int, steps: int, signals: Signals) -> int:
        """Return `steps`, or raise a pending signal."""
        del done
        signals.raise_pending()
        return steps

    def together(self, signals: Signals) -> contextlib.AbstractContextManager[None]:
        """Return a context that does nothing."""
        del signals
        return contextlib.nullcontext()

    def computing(
        self, *, whole: bool = False
    ) -> contextlib.AbstractContextManager[None]:
        """Return a context that does nothing."""
        del whole
        return contextlib.nullcontext()
