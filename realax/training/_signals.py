"""Ctrl-C and SIGTERM, answered where a run can be broken off and taken up again."""

import contextlib
import signal
import threading
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def deferred_signals() -> Generator[Any]:
    """Let SIGINT and SIGTERM wait for the function that is yielded.

    It raises `KeyboardInterrupt`, or `SystemExit` with the code of a process that ended
    by SIGTERM. A second Ctrl-C does not wait. Handlers of the user's own are left
    alone, and so are threads other than the main one, which get no signals.
    """
    pending: list[int] = []
    before: dict[int, Any] = {}
    answered = False

    def remember(number: int, frame: FrameType | None) -> None:
        if number in pending and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        pending.append(number)

    def answer() -> None:
        nonlocal answered
        answered = answered or bool(pending)
        if signal.SIGINT in pending:
            raise KeyboardInterrupt
        if signal.SIGTERM in pending:
            raise SystemExit(128 + signal.SIGTERM)

    if threading.current_thread() is threading.main_thread():
        for number, default in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, signal.SIG_DFL),
        ):
            if signal.getsignal(number) == default:
                before[number] = signal.signal(number, remember)
    try:
        import types

        yield types.SimpleNamespace(
            answer=answer, finish=lambda: None, waiting=contextlib.nullcontext
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        # One that came while the run was ending, by an error of its own perhaps.
        if pending and not answered:
            signal.raise_signal(pending[0])
