"""A run on several processes: what they agree upon, and how they end together."""

import contextlib
import signal
from collections.abc import Callable, Generator, Mapping
from typing import Any, final

import jax

from .._errors import warn_user
from .._hosts import PeerError
from .._hosts._arrays import is_divided, readable
from .._hosts._errors import lost_peer
from .._hosts._exchange import Message, exchange, sent_by_first
from .._hosts._watchdog import Watchdog
from .._types import Tree
from ._agreement import by_process, check_alike, check_devices, check_several
from ._callbacks import plain
from ._devices import devices_of
from ._processes import AbstractProcesses, OneProcess
from ._signals import Signals, say
from ._tracing import is_traced


# How long a process that has received a signal waits for others that do not answer. The
# first one can save the run in that time; the others wait for it, which may be saving.
_PATIENCE_OF_FIRST, _PATIENCE = 5.0, 60.0
# After it has left without the others, it may save for so long.
_LEAVING = 300.0


@final
class SeveralProcesses(AbstractProcesses):
    """The processes of a run over the devices of several processes.

    Each of them makes the same steps. Process 0 decides how long chunks are and runs
    the host's part of observers. Before each chunk there is an exchange, in which a
    process also says that it received a signal. One that raised an error says so in the
    place of its next exchange.
    """

    def __init__(self) -> None:
        self.leads = jax.process_index() == 0
        self._signals: Signals | None = None
        # Whether the other processes know that this one ends, or cannot be told.
        self._told = False
        self._watchdog = Watchdog()

    @contextlib.contextmanager
    def watched(self) -> Generator[None]:
        """Open a context in which processes that stand still are noticed."""
        with self._watchdog.watching(), self._telling():
            yield

    def agree(
        self, trainer: Any, inputs: Tree, about: Mapping[str, Any], streamed: bool
    ) -> Tree:
        """Compare fingerprints, and refuse what several processes cannot do."""
        place = "the start of a run"
        messages = self._exchange(place, divided=is_divided(inputs))
        if len({message["divided"] for message in messages}) == 1:
            # Otherwise some would gather arrays, and others would not.
            inputs = readable(inputs)
        check_several(trainer, streamed)
        about = {"class": type(trainer).__name__, **about, **inputs}
        check_alike(trainer, about, place, self._exchange, self._waiting)
        check_devices(trainer)
        if devices_of(trainer) == 1 and self.leads:
            warn_user(
                f"`n_devices` of `{type(trainer).__name__}` is 1, so that each of the "
                f"{jax.process_count()} processes does the same work, and process 0 "
                "alone runs the observers. Pass `n_devices=jax.device_count()` to "
                "divide it."
            )
        return inputs

    def readable(self, tree: Tree) -> Tree:
        """Return the tree on a device of this process, gathered from all."""
        with self.computing():
            return readable(tree)

    def by_first(self, function: Callable[[], None]) -> None:
        """Call the function on process 0, while the others wait."""
        if self.leads:
            function()
        self._exchange("observers of process 0")

    def from_first(self, function: Callable[[], Tree], like: Tree) -> Tree:
        """Return what the function returns on process 0, sent to all."""
        found = function() if self.leads else like
        messages = self._exchange("a checkpoint", new=found is not like)
        if not messages[0]["new"]:
            return like
        with self.computing():
            return sent_by_first(found, self._waiting)

    def decide(self, done: int, steps: int, signals: Signals) -> int:
        """Return the length of process 0, or end the run on all processes."""
        place = f"a chunk from step {done}"
        messages = self._exchange(place, steps=steps, signal=signals.first)
        return messages[0]["steps"]

    @contextlib.contextmanager
    def together(self, signals: Signals) -> Generator[None]:
        """Open a context in which all end together."""
        self._signals = signals
        try:
            # Inside of the signals, which are given back after it.
            with self._telling():
                yield
                # The run is complete, so that Ctrl-C comes too late.
                late = signals.first if signals.first == signal.SIGTERM else None
                self._exchange("the end", signal=late)
                self._told = True
        finally:
            self._signals = None

    @contextlib.contextmanager
    def computing(self, *, whole: bool = False) -> Generator[None]:
        """Open a context for a compiled program, whose errors are not told.

        The others may be in the midst of the same program, and could not listen.
        """
        if whole:
            self._watchdog.pause()
        try:
            yield
        except BaseException as error:
            self._told = True
            if (lost := lost_peer(error)) is not None:
                raise lost from error
            raise
        finally:
            self._watchdog.reset()

    @contextlib.contextmanager
    def _telling(self) -> Generator[None]:
        try:
            yield
        except BaseException as error:
            if not self._told:
                self._told = True
                with contextlib.suppress(PeerError):
                    exchange(_farewell(error), _briefly)
            raise

    def _exchange(self, place: str, **message: Any) -> list[Message]:
        try:
            messages = exchange({"place": place, **message}, self._waiting)
        except BaseException:
            self._told = True
            raise
        self._watchdog.reset()
        for number, one in enumerate(messages):
            if (error := one.get("error")) is not None:
                self._told = True
                raise PeerError(
                    f"process {number} ended this run on all processes, by "
                    f"{error.rstrip('.')}. Its own output has the traceback."
                )
            if (received := one.get("signal")) is not None:
                self._told = True
                self._end_by(received, number)
        places = [one["place"] for one in messages]
        if len({*places}) > 1:
            self._told = True
            raise PeerError(
                "the processes of a run must do the same, but they are at different "
                f"places: {by_process(places)}. Run the same script on each, without "
                "conditions on `jax.process_index()` around runs."
            )
        return messages

    def _end_by(self, received: int, number: int) -> None:
        """Raise a signal that some process received.

        **Arguments:**

        - `received`: the signal.
        - `number`: the process.
        """
        if number != jax.process_index():
            name = "SIGTERM" if received == signal.SIGTERM else "Ctrl-C"
            say(f"process {number} received {name}: the run ends here too.")
        (self._signals or Signals()).raise_as_if(received)

    def _waiting(self, seconds: float) -> None:
        """End a wait for processes that do not answer, some time after a signal."""
        signals = self._signals
        patience = _PATIENCE_OF_FIRST if self.leads else _PATIENCE
        if signals is not None and min(seconds, signals.pending_seconds) > patience:
            self._told = True
            self._watchdog.reset(_LEAVING)
            say("another process does not answer: this one ends without it.")
            signals.raise_pending()


def processes_of(trainer: Any, *inputs: Any) -> AbstractProcesses:
    """Return the processes of a run that begins.

    A run that is traced is a part of another program.

    **Arguments:**

    - `trainer`: the trainer.
    - `inputs`: the state, the key and the data of the run.
    """
    if jax.process_count() == 1 or is_traced(plain(trainer), *inputs):
        return OneProcess()
    return SeveralProcesses()


def _briefly(seconds: float) -> None:
    """End the wait for processes that do not hear a farewell."""
    if seconds > _PATIENCE:
        raise PeerError("the other processes do not answer.")


def _farewell(error: BaseException) -> Message:
    """Return what a process says that ends by an error."""
    if isinstance(error, KeyboardInterrupt):
        return {"signal": int(signal.SIGINT)}
    if isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:
        return {"signal": int(signal.SIGTERM)}
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return {"error": text.encode(errors="replace")[:250].decode(errors="ignore")}
