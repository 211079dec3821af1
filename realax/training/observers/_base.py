"""What watches a run."""

from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex

import equinox as eqx
import numpy as np

from ..._arguments import optional, whole
from ..._types import PRNGKeyArray, Tree
from ...tasks._base import check_arrays


class Handle[T]:
    """A mutable place for what an observer opens: a bar, a file, a client.

    Every handle equals every other, so that a fresh observer, with another handle of
    its own, does not compile the run again. Hold one in a static field:
    `handle: Handle = eqx.field(static=True, default_factory=Handle)`.
    """

    value: T | None

    def __init__(self, value: T | None = None):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle)

    def __hash__(self) -> int:
        return hash(Handle)

    def take(self) -> T | None:
        """Empty the handle and return what was in it."""
        value, self.value = self.value, None
        return value


# Metadata of fields that only the host half of an observer needs, not what is compiled.
HOST = {"host": True}


def host_field(**kws: Any) -> Any:
    """A field that only the host half of an observer needs, not what is compiled.

    Type checkers see its default, and whether it is a keyword, only where it is written
    out: `eqx.field(metadata={"host": True}, default=...)`.
    """
    return eqx.field(metadata=HOST, **kws)


if TYPE_CHECKING:
    type _Number = SupportsIndex | float | None
else:
    _Number = Any  # at run time the check below says better what is wrong


def _every(value: _Number) -> int | None:
    return optional(whole())("`every`", value)


class AbstractObserver(eqx.Module):
    """Something that watches a run from the host, between chunks of compiled steps.

    All methods have a default that does nothing, so an observer writes only those that
    it needs. Its fields say what is compiled with the step, but for those made by
    `host_field`; what changes while it runs belongs into a `Handle`.

    Observers never change what a run computes.

    **Arguments:**

    - `every`: chunks end at multiples of this many steps; `None`: wherever it suits.

    **Raises:** `TypeError` or `ValueError` where `every` is no number, or below 1.
    """

    every: int | None = eqx.field(
        converter=_every, metadata=HOST, default=None, kw_only=True
    )
    # Whether it acts after the others, whose files then reach as far as what it saves,
    # and starts before them.
    saves: ClassVar[bool] = False

    def select(self, state: Any, metrics: Any) -> Tree:
        """What of each step `on_chunk` is to see. Traced into the compiled step.

        **Arguments:**

        - `state`: the trainer's state after the step.
        - `metrics`: what the step returned beside it.

        **Returns:** A tree of arrays; nothing, by default.
        """
        del state, metrics
        return None

    def on_data(self, digest: str | None) -> None:
        """Called once before `on_start`, with a digest of the data of the run.

        **Arguments:**

        - `digest`: of the contents of the run's `data`; `None` for a stream, which
            nobody has seen yet.
        """
        del digest

    def on_start(self, trainer: Any, state: Any, key: PRNGKeyArray) -> Any:
        """Called once before the first step.

        **Arguments:**

        - `trainer`: the trainer that is about to run; the run ends at the step
            `trainer.train_steps`.
        - `state`: the state from which it would start.
        - `key`: the run's key.

        **Returns:** The state from which to start: `state`, or a restored one.
        """
        del trainer, key
        return state

    def on_chunk(self, steps: np.ndarray, selected: Tree, state: Any) -> None:
        """Called on the host after each chunk.

        **Arguments:**

        - `steps`: the values of `state.step` after each step of the chunk: 1 after a
            run's first.
        - `selected`: what `select` returned, numpy arrays with a leading axis of
            `len(steps)`.
        - `state`: the state after the chunk's last step.
        """
        del steps, selected, state

    def on_end(self, state: Any, error: BaseException | None) -> None:
        """Called once at the end, also where the run was broken off.

        **Arguments:**

        - `state`: the last state that all observers have seen.
        - `error`: what broke the run, for example `KeyboardInterrupt`; else `None`. It
            is raised again afterwards.
        """
        del state, error


type Observers = (
    AbstractObserver | tuple[AbstractObserver, ...] | list[AbstractObserver] | None
)


def as_tuple(
    callbacks: Observers, *more: AbstractObserver | None
) -> tuple[AbstractObserver, ...]:
    """One observer or many, and those of `more` that are not `None`, as a tuple.

    **Raises:** `ValueError` where one observer is there twice.
    """
    if callbacks is None or isinstance(callbacks, AbstractObserver):
        many = (callbacks, *more)
    else:
        many = (*callbacks, *more)
    found = list[AbstractObserver]()
    for observer in many:
        if any(observer is other for other in found):
            raise ValueError(
                f"the same `{type(observer).__name__}` is there twice, among "
                "`callbacks` or as `logger` too. Give each observer once."
            )
        if observer is not None:
            found.append(observer)
    return tuple(found)


def check_selected(observer: AbstractObserver, selected: Tree) -> None:
    """Refuse what can not be stacked over steps, where `select` is traced.

    **Raises:** `TypeError` that names the observer, and the leaf by its path.
    """
    check_arrays(selected, f"what `{type(observer).__name__}.select` returns")
