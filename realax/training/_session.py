"""The host side of an observed run."""

import contextlib
from collections.abc import Generator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._check import no_type_check
from .._errors import describe, warn_user
from .._types import Tree
from ._callbacks import Callbacks
from ._carry import Carry, Row, Selected
from ._devices import beside
from ._feed import AbstractData, AbstractFeed
from ._measured import measured_by
from ._pace import Pace
from ._processes import AbstractProcesses
from ._rows import concatenate, host_rows
from ._signals import deferred_signals
from .observers import AbstractObserver, Run


class Session:
    """The host side of an observed run: its start, its chunks and its end.

    **Arguments:**

    - `run`: the run.
    - `callbacks`: the callbacks of its trainer.
    - `state`: the state from which it starts, unless an observer restores one.
    - `feed`: the data of its steps.
    - `pace`: decides the lengths of chunks.
    - `processes`: the processes of the run. Observers are run by the one that leads.
    """

    def __init__(
        self,
        run: Run,
        callbacks: Callbacks,
        state: Any,
        feed: AbstractFeed,
        pace: Pace,
        processes: AbstractProcesses,
    ):
        self.run = run
        self.state = state
        self._callbacks = callbacks
        self.feed = feed
        self._pace = pace
        self._processes = processes
        self._started = list[AbstractObserver]()
        self._done = 0
        # Bound once, because a module makes a new module for each access of a method.
        self._warning = run.trainer.warning
        self._lanes = len(run.trainer.lanes)
        self._on_chunk = [one.on_chunk for one in callbacks.observers]
        self._measures = [
            (type(one).__name__, one.measure) for one in callbacks.observers
        ]
        self._warned = False
        self._over = False
        self._buffers: Tree = None  # of the last chunk, for their types
        self.kept = list[Tree]()

    def restore(self) -> None:
        """Replace the state by that of an observer which saves, if it has one."""
        self.state = self._processes.from_first(self._restored, self.state)

    def _restored(self) -> Any:
        state = self.state
        for observer in self._callbacks.observers:
            if observer.saves:
                self._started.append(observer)
                state = _checked(observer, observer.restore(self.run, state), state)
        return state

    def start(self) -> tuple[Selected, ...]:
        """Start the observers and the data, and return the observers' selections."""
        self._processes.by_first(self._start_observers)
        self._done = int(self.state.step)
        carry = Carry.of(self.state, self._callbacks.rules)
        self._over = bool(carry.over)
        carry = beside((self.run.key, self.run.data, self.run.compiled_trainer), carry)
        self.carry = self.run.trainer.placed(carry)
        # No batch is fetched for a run that was over before.
        steps = 0 if self._over else self.run.end - self._done
        self.feed.prepare(self._pace, skip=self._done - self.run.start, steps=steps)
        selected = tuple(
            Selected(type(one).__name__, one.select(self.run))
            for one in self._callbacks.observers
        )
        return self.run.trainer.placed(selected)

    def _start_observers(self) -> None:
        for observer in self._callbacks.observers:
            if not observer.saves:
                self._started.append(observer)
            _check_start(observer, observer.on_start(self.run, self.state))

    @property
    @no_type_check
    def unfinished(self) -> bool:
        """True if there are steps left, and data for the next one."""
        if self._done >= self.run.end or self._over:
            return False
        return self.feed.ready()

    @no_type_check
    def next_chunk(self) -> tuple[AbstractData, np.int32]:
        """Return the data of the next chunk, and its number of steps."""
        data = self.feed.data(self.carry.state)
        most = min(self.feed.left, self.run.end - self._done)
        return data, np.int32(self._pace.start(self._done, most))

    @no_type_check
    def wait_for(self, carry: Carry) -> None:
        """Prepare data until the device has computed a chunk."""
        self.feed.look_ahead(carry.state, lambda: _is_busy(carry.state.step))
        jax.block_until_ready(carry.state.step)

    @no_type_check
    def show(self, carry: Carry, buffers: Row) -> None:
        """Show a chunk to the observers.

        Only after all of them have seen it can its state be saved at the end.
        """
        seen, buffers = self._processes.readable((carry, buffers))
        self._over = bool(seen.over)
        steps = np.arange(self._done, int(seen.state.step)) + 1
        rows = host_rows(buffers, len(steps))
        self._pace.stop(len(steps))
        self.feed.used(len(steps))
        self._done += len(steps)
        self._buffers = buffers.kept
        self.kept.append(rows.kept)
        if self._processes.leads:
            self._observe(steps, rows, seen.state)
        self.carry, self.state = carry, seen.state

    @no_type_check
    def _observe(self, steps: np.ndarray, rows: Row, state: Any) -> None:
        self._warn(state)
        measured = measured_by(self._measures, steps, state, self._lanes)
        self.run.measured.clear()
        self.run.measured.update(measured)
        for on_chunk, selected in zip(self._on_chunk, rows.selected, strict=True):
            on_chunk(steps, selected, state)

    def rows(self) -> Tree:
        """Return the kept values of all steps, of which there is at least one."""
        return concatenate(self._buffers, self.kept)

    def end(self, error: BaseException | None) -> None:
        """End every observer that was started, even if one of them fails."""
        _end_all(self._started, self.state, error)

    @no_type_check
    def _warn(self, state: Any) -> None:
        text = None if self._warned else self._warning(state)
        if text is not None:
            self._warned = True
            warn_user(text)


@contextlib.contextmanager
def open_session(
    run: Run,
    callbacks: Callbacks,
    state: Any,
    feed: AbstractFeed,
    processes: AbstractProcesses,
) -> Generator[Session]:
    """Open a session, which holds back signals until it is closed.

    **Arguments:**

    - `run`, `callbacks`, `state`, `feed`, `processes`: the arguments of `Session`.
    """
    error: BaseException | None = None
    with deferred_signals() as signals, processes.together(signals):
        pace = Pace(callbacks.observers, signals, processes)
        session = Session(run, callbacks, state, feed, pace, processes)
        try:
            yield session
            signals.finish()
        except BaseException as exception:
            error = exception
            raise
        finally:
            session.end(error)


@no_type_check
def _is_busy(array: Any) -> bool:
    return not array.is_ready()


def _checked(observer: AbstractObserver, state: Any, before: Any) -> Any:
    if _types(state) != _types(before):
        raise TypeError(
            f"`{type(observer).__name__}.restore` must return the state from which to "
            f"start, of the same types and shapes as `state`, but got "
            f"{describe(state)}. End it with `return state`."
        )
    return state


def _types(state: Any) -> Any:
    leaves = jax.tree.leaves(state)
    types = [(jnp.shape(leaf), getattr(leaf, "dtype", None)) for leaf in leaves]
    return jax.tree.structure(state), types


def _check_start(observer: AbstractObserver, result: Any) -> None:
    if result is not None:
        raise TypeError(
            f"`{type(observer).__name__}.on_start` must return nothing, but got "
            f"{describe(result)}. To start from another state, write `saves = True` "
            "and return the state from `restore`."
        )


def _end_all(
    observers: list[AbstractObserver], state: Any, error: BaseException | None
) -> None:
    """End the observers in reverse order, even if one of them fails."""
    if not observers:
        return
    try:
        observers[-1].on_end(state, error)
    except Exception as failure:
        if error is None:
            raise
        # A second error must not hide the one that ended the run.
        warn_user(f"{type(observers[-1]).__name__}.on_end failed too: {failure!r}")
    finally:
        _end_all(observers[:-1], state, error)
