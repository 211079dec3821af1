"""Checkpoints, from which the same command continues a run."""

import math
import operator
import pathlib
from typing import Any, ClassVar, Literal, SupportsIndex, override

import equinox as eqx
import numpy as np

from ..._arguments import arguments, one_of, optional, path, text, whole
from ..._errors import warn_user
from ..._storage._atomic import make_folder, remove_unfinished
from ..._storage._files import write
from ..._trees import is_lost
from ..._types import Tree
from .._metrics import MeanOf, MetricOf
from ._base import AbstractObserver, Handle
from ._folder import file_of, rank, steps_in
from ._ledger import Ledger, digest_of
from ._lock import Claim, claim
from ._restore import counter_labels, restore_newest
from ._run import Run


class _Owned:
    """The folder of a run in progress, and the record of the run once it has begun."""

    ledger: Ledger | None = None

    def __init__(self, claim: Claim):
        self.claim = claim


class Checkpointer(AbstractObserver):
    """Saves a run, and continues it when the same command is run again.

    `init_and_train` and `init_and_train_` continue from the newest checkpoint in the
    folder, and end at step `train_steps`. A run that is killed at any moment and
    started again ends bit for bit as an uninterrupted one. A larger `train_steps`
    extends a run. A finished run returns at once; a smaller `train_steps` returns the
    state of that step. `data` then holds the steps since the checkpoint. A script that
    calls `train` several times can be run again too: each call ends where it ended
    before.

    A checkpoint holds the state, the step, the key, the counters of early stopping, and
    a fingerprint of the trainer's configuration and of the environment. A run with
    another key, configuration or `data` is refused in the same folder. Only
    `train_steps` and observers may change; batches of a stream are not compared. Your
    functions and classes are compared by their code and by the values that they close
    over and read, those of packages by name, and optimisers by their settings. Another
    environment, such as another version of jax, or another `n_devices` causes a
    warning, because it may change bits.

    A checkpoint is a file `step_<number>.ckpt`, written completely or not at all. If it
    was altered or truncated, this is reported and the one before it is used. On Ctrl-C,
    SIGTERM and errors the run is saved once more before it ends. One run owns its
    folder: a second run is refused until the process of the first has ended.

    **Arguments:**

    - `folder`: the folder of the checkpoints of one run. It is made if missing.
    - `every`: save at each multiple of this many steps, and at the end.
    - `keep`: the number of newest checkpoints to keep, besides the best one and those
        at which calls of `train` ended.
    - `metric`: the metric that ranks checkpoints, its mean if it is an array; the
        trainer's objective if `None`. Dots lead to deeper entries:
        `"eval_data.length"`.
    - `mode`: `"min"` if smaller values are better, `"max"` if larger ones; the mode of
        the trainer's objective if `None`.

    **Raises:** `TypeError` or `ValueError` that names the argument and says what to do.
    """

    folder: pathlib.Path = eqx.field(kw_only=True)
    every: int | None = eqx.field(default=None, kw_only=True)
    keep: int = eqx.field(kw_only=True)
    metric: str | None = eqx.field(kw_only=True)
    mode: Literal["min", "max"] | None = eqx.field(kw_only=True)
    handle: Handle[_Owned] = eqx.field(static=True, kw_only=True)
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
    def claim(self) -> None:
        """Lock the folder."""
        if self.handle.value is not None:
            raise RuntimeError(
                "this `Checkpointer` watches another run at the moment. Build one for "
                "each run, with a folder of its own."
            )
        make_folder(self.folder, "folder")
        what = f"the folder of checkpoints {self.folder}"
        self.handle.value = _Owned(claim(self.folder, "checkpoints", what, "folder"))

    @override
    def release(self) -> None:
        """Release the folder."""
        if (owned := self.handle.take()) is not None:
            owned.claim.release()

    @override
    def restore(self, run: Run, state: Any) -> Any:
        """Return the newest checkpoint between `state` and the end of the call."""
        if (owned := self.handle.value) is None:
            raise RuntimeError("`claim` must be called before `restore`.")
        if owned.claim.held:
            remove_unfinished(self.folder, "step_*")
        owned.ledger = ledger = Ledger(run, self._objective(run), state)
        state = restore_newest(self.folder, ledger, state)
        ledger.calls.open_call(ledger.start, ledger.digest)
        return state

    @property
    def since(self) -> int | None:
        """The step at which the restored run began; `None` if none was restored."""
        return None if self._ledger is None else self._ledger.since

    @override
    def select(self, run: Run) -> MetricOf | MeanOf:
        """Return the metric that ranks checkpoints, as one number."""
        kind = MeanOf if run.trainer.lanes else MetricOf
        return kind(self._objective(run)[0])

    @property
    def _ledger(self) -> Ledger | None:
        return None if self.handle.value is None else self.handle.value.ledger

    def _objective(self, run: Run) -> list[str]:
        metric, mode = run.objective
        return [self.metric or metric, self.mode or mode]

    @override
    def on_chunk(self, steps: np.ndarray, selected: Tree, state: Any) -> None:
        """Save at multiples of `every`."""
        if (ledger := self._ledger) is None:
            return
        ledger.value = float(selected[-1])
        ledger.calls.resume(ledger.start)
        if self.every is not None and steps[-1] % self.every == 0:
            self._save(ledger, state, complete=int(steps[-1]) == ledger.end)

    @override
    def on_end(self, state: Any, error: BaseException | None) -> None:
        """Save once more, and release the folder."""
        try:
            if (ledger := self._ledger) is not None:
                self._save_last(ledger, state, error)
        finally:
            self.release()

    def _save_last(
        self, ledger: Ledger, state: Any, error: BaseException | None
    ) -> None:
        if ledger.failed or ledger.value is None:  # no step was made
            return
        saved = int(state.step) == ledger.saved
        if error is None:
            if not (saved and ledger.complete):
                self._save(ledger, state, complete=True)
            return
        if not saved and is_lost(state):
            warn_user(
                f"the state of step {int(state.step)} could not be saved, because the "
                "step that failed wrote over a part of it, such as a replay buffer. "
                "The checkpoints before it are unchanged."
            )
            return
        # A second error must not hide the one that ended the run.
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
            ledger.calls.end(ledger.start, step, ledger.end, digest_of(state))
        trees = {"state": state, "key": ledger.key}
        file = file_of(self.folder, step)
        try:
            kept = self._kept(ledger, step)
            ledger.values = {k: v for k, v in ledger.values.items() if k in kept}
            meta = {
                "step": step,
                "values": ledger.values,
                "objective": ledger.objective,
                "stopping": counter_labels(state),
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
                "checkpoints before it are unchanged. The path is",
                str(file),
            ) from error

    def _kept(self, ledger: Ledger, step: int) -> set[int]:
        """Return the steps to keep: the newest, the best, ends of calls, later ones."""
        steps = sorted({*steps_in(self.folder), step})
        newest = [one for one in steps if one <= ledger.end][-self.keep :]
        later = [one for one in steps if one > ledger.end]
        values = {k: v for k, v in ledger.values.items() if k in steps}
        best = rank(values, ledger.objective[1])[:1]
        return {*newest, *later, *best, *ledger.calls.steps()}
