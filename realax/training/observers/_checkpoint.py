"""Checkpoints: the same command again goes on where it was."""

# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

import hashlib
import json
import math
import operator
import pathlib
from typing import Any, ClassVar, Literal, SupportsIndex, override

import equinox as eqx
import numpy as np

from ..._arguments import arguments, one_of, optional, path, text, whole
from ..._errors import warn_user
from ..._fingerprint import configuration, differences, environment
from ..._store import (
    CorruptFileError,
    MisfitError,
    Stored,
    make_folder,
    read,
    remove_unfinished,
    write,
)
from ..._types import PRNGKeyArray, Tree
from ._base import HOST, AbstractObserver, Handle
from ._calls import Calls
from ._folder import file_of, in_words, ranked, steps_in
from ._lock import Claim, claim
from ._metrics import metric_of
from ._stopping import EarlyStopping


class _Open:
    """What a checkpointer holds while its run lasts."""

    claim: Claim | None = None
    value: float | None = None  # of the objective, at the last step
    saved: int | None = None  # the step of the newest file of this run
    complete: bool = False  # whether that file says that the call ends there
    failed: bool = False
    refused: int = 0  # runs that began meanwhile, and are yet to be ended

    def __init__(
        self, given: "Checkpointer", trainer: Any, state: Any, key: PRNGKeyArray
    ):
        metric, mode = trainer.objective
        self.objective = [given.metric or metric, given.mode or mode]
        self.key = key
        self.data = given.data.value
        self.begun, self.end = int(state.step), int(trainer.train_steps)
        self.stopping = [o for o in trainer.callbacks if isinstance(o, EarlyStopping)]
        self.configuration = configuration(
            trainer, leave_out=("train_steps", "callbacks")
        )
        self.environment = environment()
        if options := trainer.compiler_options:
            text = ", ".join(f"{name}={value}" for name, value in options.items())
            self.environment["compiler options"] = text
        self.values: dict[int, float] = {}  # of the objective, for each file
        self.calls = Calls()
        self.digest = _digest(state)

    def take_up(self, stored: Stored) -> None:
        """Know what the run before this one knew."""
        if stored.meta.get("objective") == self.objective:
            self.values = {int(k): v for k, v in stored.meta["values"].items()}
        self.calls = Calls(stored.meta)


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
    aside; functions count by their qualified names, optimisers by their settings.
    Another environment, such as another version of jax, is a warning, since it may
    change bits.

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

    folder: pathlib.Path = eqx.field(metadata=HOST, kw_only=True)
    every: int | None = eqx.field(metadata=HOST, default=None, kw_only=True)
    keep: int = eqx.field(metadata=HOST, kw_only=True)
    metric: str | None = eqx.field(static=True, kw_only=True)
    mode: Literal["min", "max"] | None = eqx.field(metadata=HOST, kw_only=True)
    handle: Handle[_Open] = eqx.field(static=True, kw_only=True)
    data: Handle[str] = eqx.field(static=True, kw_only=True)
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
        self.data = Handle()

    @override
    def on_data(self, digest: str | None) -> None:
        """Remember what the run's data are."""
        self.data.value = digest

    @override
    def on_start(self, trainer: Any, state: Any, key: PRNGKeyArray) -> Any:
        """Restore the newest checkpoint between `state` and the end of this call."""
        if self.handle.value is not None:
            self.handle.value.refused += 1
            raise RuntimeError(
                "this `Checkpointer` watches another run at the moment. Build one for "
                "each, with a folder of its own."
            )
        opened = _Open(self, trainer, state, key)
        make_folder(self.folder, "folder")
        what = f"the folder of checkpoints {self.folder}"
        opened.claim = claim(self.folder, "checkpoints", what, "folder")
        self.handle.value = opened
        if opened.claim.held:
            remove_unfinished(self.folder, "step_*")
        state = self._restored(opened, state)
        opened.calls.begin(opened.begun, opened.digest)
        return state

    def _restored(self, opened: _Open, state: Any) -> Any:
        steps = steps_in(self.folder)
        last, known = opened.end, False
        damaged = list[str]()
        useless = list[pathlib.Path]()
        for step in reversed(steps):
            # One beyond the end says which run this is, and what is known of it.
            if known and step > last:
                continue
            file = file_of(self.folder, step)
            try:
                stored = read(file)
                _check_same_run(self.folder, stored, opened)
                if not known:
                    opened.take_up(stored)
                    known = True
                    ended = opened.calls.end_of(opened.begun, opened.end)
                    if ended in steps:
                        last = ended
                if step > last:
                    continue
                restored = stored.fill("state", state)
            except (CorruptFileError, MisfitError) as error:
                useless.append(file)
                damaged.append(f"{error} The checkpoint before it is tried.")
                warn_user(damaged[-1])
                continue
            _check_environment(self.folder, stored, opened)
            if step > opened.begun:
                opened.saved = step
                _restore_stopping(opened, stored)
                state = restored
            break
        if damaged and not known:
            raise CorruptFileError(
                f"no checkpoint in {self.folder} can be used. Restore one from a copy, "
                f"or empty the folder to begin the run anew. {' '.join(damaged)}"
            )
        between = [step for step in steps if opened.begun <= step <= opened.end]
        if known and not between and opened.begun < opened.end:
            warn_user(
                f"the run in {self.folder} is at step {steps[-1]} already, and of no "
                f"step up to {opened.end}, which is asked for, there is a checkpoint. "
                f"The steps after {opened.begun} are computed again; later ones are "
                "dropped from the log."
            )
        # Out of the way, so that they do not count as the newest ones.
        for file in useless:
            file.rename(file.with_suffix(".damaged"))
        return state

    @override
    def select(self, state: Any, metrics: Any) -> Tree:
        """The metric that says what is best, as one number."""
        del state
        # The trainer, a part of what is compiled, decides what the handle says here.
        opened = self.handle.value
        return None if opened is None else metric_of(metrics, opened.objective[0])

    @override
    def on_chunk(self, steps: np.ndarray, selected: Tree, state: Any) -> None:
        """Save at multiples of `every`."""
        if (opened := self.handle.value) is None:
            return
        opened.value = float(selected[-1])
        opened.calls.go_on(opened.begun)
        if self.every is not None and steps[-1] % self.every == 0:
            self._save(opened, state, complete=int(steps[-1]) == opened.end)

    @override
    def on_end(self, state: Any, error: BaseException | None) -> None:
        """Save once more, and let others have the folder."""
        opened = self.handle.value
        if opened is not None and opened.refused:
            opened.refused -= 1
            return
        self.handle.value = self.data.value = None
        if opened is None:
            return
        try:
            self._save_last(opened, state, error)
        finally:
            if opened.claim is not None:
                opened.claim.release()

    def _save_last(
        self, opened: _Open, state: Any, error: BaseException | None
    ) -> None:
        if opened.failed or opened.value is None:  # not one step was made
            return
        saved = int(state.step) == opened.saved
        if error is None:
            if not (saved and opened.complete):
                self._save(opened, state, complete=True)
            return
        # What broke the run must not be hidden by what comes after it.
        try:
            if not saved:
                self._save(opened, state, complete=False)
        except OSError as failure:
            warn_user(f"the last checkpoint could not be saved: {failure}")

    def _save(self, opened: _Open, state: Any, complete: bool) -> None:
        step = int(state.step)
        value = opened.value
        if value is not None and math.isfinite(value):
            opened.values[step] = value
        if complete:
            opened.calls.end(opened.begun, step, opened.end, _digest(state))
        trees = {"state": state, "key": opened.key}
        for i, stop in enumerate(opened.stopping):
            trees[f"stopped[{i}]"] = stop.handle.value
        file = file_of(self.folder, step)
        try:
            kept = self._kept(opened, step)
            opened.values = {k: v for k, v in opened.values.items() if k in kept}
            meta = {
                "step": step,
                "values": opened.values,
                "objective": opened.objective,
                "stopping": [_rule(stop) for stop in opened.stopping],
                "configuration": opened.configuration,
                "environment": opened.environment,
                "data": opened.data,
                **opened.calls.meta(),
            }
            write(file, trees, meta)
            opened.saved, opened.complete = step, complete
            for old in steps_in(self.folder):
                if old not in kept:
                    file_of(self.folder, old).unlink(missing_ok=True)
        except OSError as error:
            opened.failed = True
            raise OSError(
                error.errno,
                f"the checkpoint of step {step} could not be written "
                f"({error.strerror}). Make room, or choose another `folder`; the "
                "checkpoints before it are as they were. The path is",
                str(file),
            ) from error

    def _kept(self, opened: _Open, step: int) -> set[int]:
        """The newest steps, the best one, the ends of calls, and what lies beyond."""
        steps = sorted({*steps_in(self.folder), step})
        newest = [one for one in steps if one <= opened.end][-self.keep :]
        beyond = [one for one in steps if one > opened.end]
        best = ranked(opened.values, opened.objective[1])[:1]
        return {*newest, *beyond, *best, *opened.calls.steps()}


def _restore_stopping(opened: _Open, stored: Stored) -> None:
    # Another rule of stopping begins to count anew.
    for stop in opened.stopping:
        if (rule := _rule(stop)) in stored.meta["stopping"]:
            name = f"stopped[{stored.meta['stopping'].index(rule)}]"
            stop.handle.value = stored.fill(name, stop.begin())


def _check_same_run(folder: pathlib.Path, stored: Stored, opened: _Open) -> None:
    """Refuse another key, configuration, data or state to begin with."""
    wrong = differences(stored.meta["configuration"], opened.configuration)
    kind = str(opened.key.dtype)
    if (before := stored.leaves["key"]["dtype"]) != kind:
        wrong.append(f"key: {before} then, {kind} now")
    else:
        key = {"key": _text(opened.key)}
        wrong += differences({"key": _text(stored.fill("key", opened.key))}, key)
    before, now = stored.meta.get("data"), opened.data
    if before is not None and now is not None and before != now:
        wrong.append(f"data: {before} then, {now} now")
    before = Calls(stored.meta).states.get(opened.begun, opened.digest)
    if not wrong and before != opened.digest:
        step = opened.begun
        wrong.append(f"the state at step {step}: {before} then, {opened.digest} now")
    if wrong:
        raise ValueError(
            f"{folder} holds another run. What differs: {in_words(wrong)}. Choose "
            "another folder for this run, or make it the same again to go on with that "
            "one."
        )


def _check_environment(folder: pathlib.Path, stored: Stored, opened: _Open) -> None:
    """Warn of another environment."""
    changed = differences(stored.meta["environment"], opened.environment)
    if changed:
        warn_user(
            f"the run in {folder} goes on in another environment, and may differ in "
            f"its last bits from one that was not interrupted: {'; '.join(changed)}."
        )


def _digest(state: Any) -> str:
    return hashlib.sha256(json.dumps(configuration(state)).encode()).hexdigest()[:12]


def _rule(stop: EarlyStopping) -> str:
    return json.dumps(configuration(stop, leave_out=("handle", "every")))


def _text(key: PRNGKeyArray) -> str:
    return configuration(key)["."]
