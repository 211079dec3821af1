"""Checkpoints: the same command again goes on where it was."""

import math
import operator
import pathlib
from typing import Any, ClassVar, Literal, SupportsIndex, override

import equinox as eqx
import numpy as np

from ..._arguments import arguments, one_of, optional, path, text, whole
from ..._errors import warn_user
from ..._storage._files import (
    CorruptFileError,
    MisfitError,
    make_folder,
    read,
    remove_unfinished,
    write,
)
from ..._types import Tree
from .._metrics import MetricOf
from ._base import AbstractObserver, Handle
from ._folder import file_of, ranked, steps_in
from ._ledger import (
    Ledger,
    check_environment,
    check_same_run,
    counted,
    digest_of,
    filled,
)
from ._lock import claim
from ._run import Run


class Checkpointer(AbstractObserver):
    """Saves a run, and takes it up again where the same command is run once more.

    With one attached, `init_and_train` and `init_and_train_` go on from the newest
    checkpoint in the folder, and end at step `train_steps`: killed at any moment and
    started again, a run ends bit for bit as one that was never interrupted. A larger
    `train_steps` extends a run; a finished one returns at once, and so does one that
    asks for fewer steps, with the state of then. `data` then holds the steps since the
    checkpoint. A script that calls `train` several times may be run again too: each
    call ends where it ended before.

    Saved is everything: the state, the step, the key, early stopping's counters, and a
    fingerprint of the trainer's configuration and of the environment. Another key,
    configuration or `data` in the same folder is refused, `train_steps` and observers
    aside; the batches of a stream are not compared. Your functions and classes count
    by their code, and by what they close over and read; those of packages by name, and
    optimisers by their settings. Another environment, such as another version of jax,
    or another `n_devices` is a warning, since it may change bits.

    A checkpoint is a file `step_<number>.ckpt`, written whole or not at all. One that
    was altered or truncated is reported, and the one before it is used. Ctrl-C, SIGTERM
    and errors save once more before the run ends. One run owns its folder: a second one
    is refused at once, until the process of the first has ended.

    **Arguments:**

    - `folder`: where to keep them, one folder for one run. It is made if missing.
    - `every`: save at each multiple of so many steps, and at the end.
    - `keep`: how many of the newest to keep, besides the best one and those at which
        calls of `train` ended.
    - `metric`: which of the metrics says what is best, its mean where it is an array;
        the trainer's objective if `None`. What lies deeper is reached by dots:
        `"eval_data.length"`.
    - `mode`: which way is better; that of the trainer's objective if `None`.

    **Raises:** `TypeError` or `ValueError` that names the argument and the remedy.
    """

    folder: pathlib.Path = eqx.field(kw_only=True)
    every: int | None = eqx.field(default=None, kw_only=True)
    keep: int = eqx.field(kw_only=True)
    metric: str | None = eqx.field(kw_only=True)
    mode: Literal["min", "max"] | None = eqx.field(kw_only=True)
    handle: Handle[Ledger] = eqx.field(static=True, kw_only=True)
    saves: ClassVar[bool] = True

    @arguments(
        folder=path,
        every=whole(),
        keep=whole(),
        metric=optional(text),
        mode=optional(one_of("min", "max")),
    )
    def __init__(
        self,
        folder: str | pathlib.Path,
        every: SupportsIndex = 100,
        keep: SupportsIndex = 3,
        *,
        metric: str | None = None,
        mode: Literal["min", "max"] | None = None,
    ):
        self.folder = pathlib.Path(folder)
        self.every = operator.index(every)
        self.keep = operator.index(keep)
        self.metric = metric
        self.mode = mode
        self.handle = Handle()

    @override
    def restore(self, run: Run, state: Any) -> Any:
        """Return the newest checkpoint between `state` and the end of this call."""
        if self.handle.value is not None:
            self.handle.value.refused += 1
            raise RuntimeError(
                "this `Checkpointer` watches another run at the moment. Build one for "
                "each, with a folder of its own."
            )
        ledger = Ledger(run, self._objective(run), state)
        make_folder(self.folder, "folder")
        what = f"the folder of checkpoints {self.folder}"
        ledger.claim = claim(self.folder, "checkpoints", what, "folder")
        self.handle.value = ledger
        if ledger.claim.held:
            remove_unfinished(self.folder, "step_*")
        state = self._restored(ledger, state)
        ledger.calls.begin(ledger.begun, ledger.digest)
        return state

    def _restored(self, ledger: Ledger, state: Any) -> Any:
        steps = steps_in(self.folder)
        last, known = ledger.end, False
        damaged = list[str]()
        useless = list[pathlib.Path]()
        for step in reversed(steps):
            # One beyond the end says which run this is, and what is known of it.
            if known and step > last:
                continue
            file = file_of(self.folder, step)
            try:
                stored = read(file)
                check_same_run(self.folder, stored, ledger)
                if not known:
                    ledger.take_up(stored)
                    known = True
                    ended = ledger.calls.end_of(ledger.begun, ledger.end)
                    if ended in steps:
                        last = ended
                if step > last:
                    continue
                restored = filled(stored, state)
            except (CorruptFileError, MisfitError) as error:
                useless.append(file)
                damaged.append(f"{error} The checkpoint before it is tried.")
                warn_user(damaged[-1])
                continue
            check_environment(self.folder, stored, ledger)
            if step > ledger.begun:
                ledger.saved, ledger.since = step, ledger.begun
                state = restored
            break
        if damaged and not known:
            raise CorruptFileError(
                f"no checkpoint in {self.folder} can be used. Restore one from a copy, "
                f"or empty the folder to begin the run anew. {' '.join(damaged)}"
            )
        between = [step for step in steps if ledger.begun <= step <= ledger.end]
        if known and not between and ledger.begun < ledger.end:
            warn_user(
                f"the run in {self.folder} is at step {steps[-1]} already, and of no "
                f"step up to {ledger.end}, which is asked for, there is a checkpoint. "
                f"The steps after {ledger.begun} are computed again; later ones are "
                "dropped from the log."
            )
        # Out of the way, so that they do not count as the newest ones.
        for file in useless:
            file.rename(file.with_suffix(".damaged"))
        return state

    @property
    def since(self) -> int | None:
        """The step at which the run had begun that was restored; `None` for another."""
        return None if self.handle.value is None else self.handle.value.since

    @override
    def select(self, run: Run) -> MetricOf:
        """Return the metric that says what is best, as one number."""
        return MetricOf(self._objective(run)[0])

    def _objective(self, run: Run) -> list[str]:
        metric, mode = run.objective
        return [self.metric or metric, self.mode or mode]

    @override
    def on_chunk(self, steps: np.ndarray, selected: Tree, state: Any) -> None:
        """Save at multiples of `every`."""
        if (ledger := self.handle.value) is None:
            return
        ledger.value = float(selected[-1])
        ledger.calls.go_on(ledger.begun)
        if self.every is not None and steps[-1] % self.every == 0:
            self._save(ledger, state, complete=int(steps[-1]) == ledger.end)

    @override
    def on_end(self, state: Any, error: BaseException | None) -> None:
        """Save once more, and let others have the folder."""
        ledger = self.handle.value
        if ledger is not None and ledger.refused:
            ledger.refused -= 1
            return
        self.handle.value = None
        if ledger is None:
            return
        try:
            self._save_last(ledger, state, error)
        finally:
            if ledger.claim is not None:
                ledger.claim.release()

    def _save_last(
        self, ledger: Ledger, state: Any, error: BaseException | None
    ) -> None:
        if ledger.failed or ledger.value is None:  # not one step was made
            return
        saved = int(state.step) == ledger.saved
        if error is None:
            if not (saved and ledger.complete):
                self._save(ledger, state, complete=True)
            return
        # What broke the run must not be hidden by what comes after it.
        try:
            if not saved:
                self._save(ledger, state, complete=False)
        except OSError as failure:
            warn_user(f"the last checkpoint could not be saved: {failure}")

    def _save(self, ledger: Ledger, state: Any, complete: bool) -> None:
        step = int(state.step)
        value = ledger.value
        if value is not None and math.isfinite(value):
            ledger.values[step] = value
        if complete:
            ledger.calls.end(ledger.begun, step, ledger.end, digest_of(state))
        trees = {"state": state, "key": ledger.key}
        file = file_of(self.folder, step)
        try:
            kept = self._kept(ledger, step)
            ledger.values = {k: v for k, v in ledger.values.items() if k in kept}
            meta = {
                "step": step,
                "values": ledger.values,
                "objective": ledger.objective,
                "stopping": counted(state),
                "configuration": ledger.configuration,
                "environment": ledger.environment,
                "data": ledger.data,
                **ledger.calls.meta(),
            }
            write(file, trees, meta)
            ledger.saved, ledger.complete = step, complete
            for old in steps_in(self.folder):
                if old not in kept:
                    file_of(self.folder, old).unlink(missing_ok=True)
        except OSError as error:
            ledger.failed = True
            raise OSError(
                error.errno,
                f"the checkpoint of step {step} could not be written "
                f"({error.strerror}). Make room, or choose another `folder`; the "
                "checkpoints before it are as they were. The path is",
                str(file),
            ) from error

    def _kept(self, ledger: Ledger, step: int) -> set[int]:
        """The newest steps, the best one, the ends of calls, and what lies beyond."""
        steps = sorted({*steps_in(self.folder), step})
        newest = [one for one in steps if one <= ledger.end][-self.keep :]
        beyond = [one for one in steps if one > ledger.end]
        values = {k: v for k, v in ledger.values.items() if k in steps}
        best = ranked(values, ledger.objective[1])[:1]
        return {*newest, *beyond, *best, *ledger.calls.steps()}
