"""Restoring a run from the newest checkpoint that belongs to it."""

import pathlib
from typing import Any

from ..._errors import warn_user
from ..._storage._files import CorruptFileError, MisfitError, Stored, read
from ..._trees import with_fields
from ._folder import file_of, steps_in
from ._ledger import Ledger
from ._same_run import check_environment, check_same_run


def restore_newest(folder: pathlib.Path, ledger: Ledger, state: Any) -> Any:
    """Return the newest checkpoint between `state` and the end of the call.

    Damaged checkpoints are reported and renamed to `.damaged`.

    **Arguments:**

    - `folder`: the folder of checkpoints.
    - `ledger`: the record of the run, which adopts that of an earlier process.
    - `state`: the state with which the run was called, returned if no checkpoint is
        later.

    **Raises:** `ValueError` if the folder holds another run, `CorruptFileError` if all
    of its checkpoints are damaged.
    """
    steps = steps_in(folder)
    last, known = ledger.end, False
    messages = list[str]()
    damaged = list[pathlib.Path]()
    for step in reversed(steps):
        # The newest checkpoint identifies the run, even if it is beyond the end.
        if known and step > last:
            continue
        file = file_of(folder, step)
        try:
            stored = read(file)
            check_same_run(folder, stored, ledger)
            if not known:
                ledger.adopt(stored)
                known = True
                last = _end_of_call(ledger, steps)
            if step > last:
                continue
            restored = fill_state(stored, state)
        except (CorruptFileError, MisfitError) as error:
            damaged.append(file)
            messages.append(f"{error} The checkpoint before it is tried.")
            warn_user(messages[-1])
            continue
        check_environment(folder, stored, ledger)
        if step > ledger.start:
            ledger.saved, ledger.since = step, ledger.start
            state = restored
        break
    if messages and not known:
        raise CorruptFileError(
            f"no checkpoint in {folder} can be used. Restore one from a copy, or empty "
            f"the folder to begin the run anew. {' '.join(messages)}"
        )
    if known:
        _warn_of_gap(folder, ledger, steps)
    # Renamed, so that damaged files do not count as the newest ones.
    for file in damaged:
        file.rename(file.with_suffix(".damaged"))
    return state


def _end_of_call(ledger: Ledger, steps: list[int]) -> int:
    """Return the step at which this call ended before, or else is to end."""
    ended = ledger.calls.end_of(ledger.start, ledger.end)
    return ledger.end if ended is None or ended not in steps else ended


def _warn_of_gap(folder: pathlib.Path, ledger: Ledger, steps: list[int]) -> None:
    """Warn if all checkpoints of the run are beyond the end of the call."""
    between = [step for step in steps if ledger.start <= step <= ledger.end]
    if not between and ledger.start < ledger.end:
        warn_user(
            f"the run in {folder} is at step {steps[-1]} already, and there is no "
            f"checkpoint up to step {ledger.end}, the requested end. The steps after "
            f"{ledger.start} are computed again; later ones are dropped from the log."
        )


def counter_labels(state: Any) -> list[str]:
    """Return the labels of the stopping counters in a state."""
    return [counters.label for counters in state.stopping]


def fill_state(stored: Stored, state: Any) -> Any:
    """Return `state` with the arrays of a file.

    Stopping counters are matched by their labels: those that the file lacks keep the
    values of `state`, and those that `state` lacks are ignored.
    """
    bare = stored.fill("state", with_fields(state, stopping=()))
    labels: list[str | None] = [*stored.meta["stopping"]]
    stopping = list[Any]()
    for label, counters in zip(counter_labels(state), state.stopping, strict=True):
        if label in labels:
            place = labels.index(label)
            labels[place] = None
            counters = stored.fill(f"state.stopping[{place}]", counters)
        stopping.append(counters)
    return with_fields(bare, stopping=tuple(stopping))
