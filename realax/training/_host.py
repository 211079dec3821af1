"""The part of a run that the host evaluates, between compiled steps."""

from collections.abc import Callable
from typing import Any, Protocol, final, runtime_checkable

import equinox as eqx
import jax

from .._check import no_type_check
from .._compile import compiled
from .._types import PRNGKeyArray, Tree
from ..tasks import AbstractTask
from ..tasks._workers_task import constant
from ._callbacks import plain
from ._feed import AbstractData, AbstractFeed
from ._pace import Pace


@runtime_checkable
class Asking(Protocol):
    """A trainer whose steps ask for something, evaluate it, and tell the result.

    `ask` and what follows `evaluate` are compiled. If its task runs on the host, so
    does `evaluate`, and the step gets an `Answer` in place of the data.
    """

    @property
    def task(self) -> AbstractTask[Any]:
        """The task that is trained on."""
        ...

    def ask_first(self, key: PRNGKeyArray) -> tuple[Any, Any] | None:
        """Return what `initialize` evaluates: a state, and what it asks for.

        `None` if it evaluates nothing.
        """
        ...

    def ask(self, state: Any, key: PRNGKeyArray) -> Any:
        """Return what a step evaluates."""
        ...

    def evaluate(self, state: Any, asked: Any, data: Tree = None) -> Any:
        """Evaluate it."""
        ...


@no_type_check
class Answer(eqx.Module):
    """What was asked in a step, and what the host found.

    - `asked`: from the trainer's `ask`.
    - `results`: from its `evaluate`.
    """

    asked: Any
    results: Any


def asks_host(trainer: Any) -> bool:
    """Return whether the host evaluates the task of a trainer."""
    return isinstance(trainer, Asking) and trainer.task.on_host


def first_answer(trainer: Any, key: PRNGKeyArray, data: Tree) -> Tree:
    """Return the data for `initialize`: those of the run, or the host's answer.

    **Arguments:**

    - `trainer`: the trainer.
    - `key`: the key of the state.
    - `data`: the data of the run, which only the host needs if it evaluates.
    """
    if isinstance(data, Answer) or not asks_host(trainer):
        return data
    first = compiled(_ask_first, {})(plain(trainer), key)
    if first is None:
        return None
    state, asked = first
    return Answer(asked, trainer.evaluate(state, asked, data))


def _ask_first(trainer: Any, key: PRNGKeyArray) -> Tree:
    return trainer.ask_first(key)


def _ask(trainer: Any, state: Any, key: PRNGKeyArray) -> Any:
    return trainer.ask(state, trainer.step_key(trainer.run_key(key), state))


@no_type_check
def _fits(dtype: Any, other: Any) -> bool:
    """Return whether numbers can take another type; whole ones that of floats too."""
    return dtype == other or (dtype.kind in "biu" and other.kind in "iuf")


def _shapes(results: Any) -> str:
    """Return the shapes of an aux, for a message."""
    shown = jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", results.aux)
    return str(shown)


@final
@no_type_check
class _Answered(AbstractData):
    asked: Any
    results: Any
    most = 1

    def of_step(self, i: Any) -> Answer:
        del i
        return Answer(self.asked, self.results)


@final
class HostFeed(AbstractFeed):
    """The host's answers as the data of a run, each for one step.

    **Arguments:**

    - `trainer`: the trainer, which evaluates.
    - `outline`: the trainer as it is compiled.
    - `key`: the run's key.
    - `data`: the data of the run, for the evaluation.
    """

    needs_host = True
    under_trace = (
        "where its task cannot run on the host. Train on it with the outermost trainer."
    )
    _pace: Pace

    def __init__(self, trainer: Any, outline: Any, key: PRNGKeyArray, data: Tree):
        # Bound once, because a module makes a new module for each access of a method.
        self._evaluate = trainer.evaluate
        self._ask = compiled(_ask, {}, wait=False)
        self._outline = outline
        self._key = key
        self._data = constant(data)
        self._first: Any = None  # results
        self._asked: tuple[Any, Any] = (None, None)  # of a state

    def prepare(self, pace: Pace, skip: int, steps: int) -> None:
        """Keep the pace, in whose context signals act at once."""
        del skip, steps
        self._pace = pace

    @property
    @no_type_check
    def left(self) -> int:
        """1, because an answer depends on the state before it."""
        return 1

    @no_type_check
    def ready(self) -> bool:
        """Return True."""
        return True

    @no_type_check
    def data(self, state: Any) -> _Answered:
        """Ask for a generation of a state, and evaluate it on the host.

        **Raises:** the errors of the task; `KeyboardInterrupt` at once.
        """
        known, asked = self._asked
        if known is not state:  # the first one
            asked = self._ask(self._outline, state, self._key)
        with self._pace.user_code():
            results = self._evaluate(state, asked, self._data)
        return _Answered(asked, self._like_the_first(results))

    @no_type_check
    def _like_the_first(self, results: Any) -> Any:
        """Return results with the types of those of the first step.

        **Raises:** `TypeError` for other shapes, and for types that would lose digits.
        """
        leaves, structure = jax.tree.flatten(results)
        if self._first is None:
            self._first = results
            self._types = structure, [leaf.shape for leaf in leaves], leaves
        expected, shapes, firsts = self._types
        same = structure == expected and [leaf.shape for leaf in leaves] == shapes
        if same and all(
            a.dtype == b.dtype for a, b in zip(leaves, firsts, strict=True)
        ):
            return results
        pairs = zip(leaves, firsts, strict=True) if same else ()
        if not same or not all(_fits(a.dtype, b.dtype) for a, b in pairs):
            raise TypeError(
                f"the aux of {self._outline.task.display_name} must be the same in each"
                f" generation, with arrays of the same shapes and types, but got "
                f"{_shapes(results)} after {_shapes(self._first)}."
            )
        pairs = zip(leaves, firsts, strict=True)
        return jax.tree.unflatten(structure, [a.astype(b.dtype) for a, b in pairs])

    @no_type_check
    def used(self, steps: int) -> None:
        """Do nothing, because each answer is used at once."""
        del steps

    @no_type_check
    def look_ahead(self, state: Any, busy: Callable[[], bool]) -> None:
        """Ask for the next generation, which the device computes after the state.

        After the last step of a run, it is asked for in vain.
        """
        del busy
        self._asked = state, self._ask(self._outline, state, self._key)

    def example(self, state: Any) -> Tree:
        """Return an answer, whose shapes are needed after a run without steps."""
        return self.data(state).of_step(0)
