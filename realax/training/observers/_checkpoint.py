"""Checkpoints: the same command again goes on where it was."""

# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

import hashlib
import json
import math
import pathlib
import re
from typing import Any, ClassVar, SupportsIndex, override

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..._errors import count, warn_user
from ..._fingerprint import configuration, differences, environment
from ..._store import (
    CorruptFileError,
    MisfitError,
    Stored,
    read,
    remove_unfinished,
    write,
)
from ..._types import PRNGKeyArray, Tree
from ._base import AbstractObserver, Handle, host_field
from ._stopping import EarlyStopping


_NAME = "step_{:010d}.ckpt"
_PATTERN = re.compile(r"step_(\d{10})\.ckpt")


class _Open:
    """What a checkpointer holds while its run lasts."""

    def __init__(self, trainer: Any, key: PRNGKeyArray):
        self.metric, self.mode = trainer.objective
        self.key = key
        self.stopping = [o for o in trainer.callbacks if isinstance(o, EarlyStopping)]
        self.configuration = _configuration(trainer)
        self.environment = environment()
        if options := trainer.compiler_options:
            text = ", ".join(f"{name}={value}" for name, value in options.items())
            self.environment["compiler options"] = text
        self.value: float | None = None  # of the objective, at the last step
        self.values: dict[int, float] = {}  # of each step that is kept
        self.saved: int | None = None
        self.start: list[Any] = []  # the step and digest of the state it began with
        self.failed = False


class Checkpointer(AbstractObserver):
    """Saves a run, and takes it up again where the same command is run once more.

    With one attached, `init_and_train` and `init_and_train_` go on from the newest
    checkpoint in the folder, and end at step `train_steps`: killed at any moment and
    started again, a run ends bit for bit as one that was never interrupted. A larger
    `train_steps` extends a run; a finished one returns at once. `data` then holds the
    steps since the checkpoint.

    Saved is everything: the state, the step, the key, early stopping's counters, and a
    fingerprint of the trainer's configuration and of the environment. Another key or
    configuration in the same folder is refused, `train_steps` and observers aside;
    functions count by their qualified names, optimisers by their settings. Another
    environment, such as another version of jax, is a warning, since it may change bits.

    A checkpoint is a file `step_<number>.ckpt`, written whole or not at all. One that
    was altered or truncated is reported, and the one before it is used. Ctrl-C, SIGTERM
    and errors save once more before the run ends.

    **Arguments:**

    - `folder`: where to keep them, one folder for one run. It is made if missing.
    - `every`: save at each multiple of so many steps, and at the end.
    - `keep`: how many of the newest to keep; the best one by the trainer's objective is
        kept besides.
    """

    folder: pathlib.Path = host_field(kw_only=True)
    every: int | None = host_field(default=None, kw_only=True)
    keep: int = host_field(kw_only=True)
    handle: Handle[_Open] = eqx.field(static=True, kw_only=True)
    saves: ClassVar[bool] = True

    def __init__(
        self,
        folder: str | pathlib.Path,
        every: SupportsIndex = 100,
        keep: SupportsIndex = 3,
    ):
        self.folder = pathlib.Path(folder)
        self.every = count("every", every)
        self.keep = count("keep", keep)
        self.handle = Handle()

    @override
    def on_start(self, trainer: Any, state: Any, key: PRNGKeyArray) -> Any:
        """Restore the newest checkpoint that is further than `state`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(self.folder, "step_*")
        if self.handle.value is not None:
            raise RuntimeError(
                "this `Checkpointer` watches another run at the moment. Build one for "
                "each, with a folder of its own."
            )
        opened = self.handle.value = _Open(trainer, key)
        opened.start = [int(state.step), _digest(state)]
        damaged = list[str]()
        useless = list[pathlib.Path]()
        for step in reversed(_steps(self.folder)):
            path = self.folder / _NAME.format(step)
            try:
                stored = read(path)
                _check_same_run(self.folder, stored, opened)
                state = self._restored(opened, stored, state)
            except (CorruptFileError, MisfitError) as error:
                useless.append(path)
                damaged.append(f"{error} The checkpoint before it is tried.")
                warn_user(damaged[-1])
            else:
                # Out of the way, so that they do not count as the newest ones.
                for path in useless:
                    path.rename(path.with_suffix(".damaged"))
                if int(state.step) > trainer.train_steps:
                    warn_user(
                        f"the run in {self.folder} is at step {int(state.step)} "
                        f"already, beyond the {trainer.train_steps} that are asked for."
                    )
                return state
        if damaged:
            raise CorruptFileError(
                f"no checkpoint in {self.folder} can be used. Restore one from a copy, "
                f"or empty the folder to begin the run anew. {' '.join(damaged)}"
            )
        return state

    def _restored(self, opened: _Open, stored: Stored, state: Any) -> Any:
        opened.values = {int(k): v for k, v in stored.meta["values"].items()}
        restored = stored.fill("state", state)
        if stored.meta["step"] <= int(state.step):
            return state
        opened.saved = stored.meta["step"]
        opened.start = stored.meta["start"]
        # Another rule of stopping begins to count anew.
        for stop in opened.stopping:
            if (text := _rule(stop)) in stored.meta["stopping"]:
                name = f"stopped[{stored.meta['stopping'].index(text)}]"
                stop.handle.value = stored.fill(name, stop.begin())
        return restored

    @override
    def select(self, state: Any, metrics: Any) -> Tree:
        """The objective, as one number."""
        del state
        # The trainer, a part of what is compiled, decides what the handle says here.
        opened = self.handle.value
        return None if opened is None else jnp.mean(metrics[opened.metric])

    @override
    def on_chunk(self, steps: np.ndarray, selected: Tree, state: Any) -> None:
        """Save at multiples of `every`."""
        if (opened := self.handle.value) is None:
            return
        opened.value = float(selected[-1])
        if self.every is not None and steps[-1] % self.every == 0:
            self._save(opened, state)

    @override
    def on_end(self, state: Any, error: BaseException | None) -> None:
        """Save once more."""
        opened = self.handle.take()
        if opened is None or opened.failed or int(state.step) == opened.saved:
            return
        if opened.value is None:  # not one step was made
            return
        if error is None:
            self._save(opened, state)
            return
        # What broke the run must not be hidden by what comes after it.
        try:
            self._save(opened, state)
        except OSError as failure:
            warn_user(f"the last checkpoint could not be saved: {failure}")

    def _save(self, opened: _Open, state: Any) -> None:
        step = int(state.step)
        value = opened.value
        if value is not None and math.isfinite(value):
            opened.values[step] = value
        trees = {"state": state, "key": opened.key}
        for i, stop in enumerate(opened.stopping):
            trees[f"stopped[{i}]"] = stop.handle.value
        path = self.folder / _NAME.format(step)
        try:
            kept = self._kept(opened, step)
            opened.values = {k: v for k, v in opened.values.items() if k in kept}
            meta = {
                "step": step,
                "start": opened.start,
                "values": opened.values,
                "stopping": [_rule(stop) for stop in opened.stopping],
                "configuration": opened.configuration,
                "environment": opened.environment,
            }
            write(path, trees, meta)
            opened.saved = step
            for old in _steps(self.folder):
                if old not in kept:
                    (self.folder / _NAME.format(old)).unlink(missing_ok=True)
        except OSError as error:
            opened.failed = True
            raise OSError(
                error.errno,
                f"the checkpoint of step {step} could not be written "
                f"({error.strerror}). Make room, or choose another `folder`; the "
                "checkpoints before it are as they were. The path is",
                str(path),
            ) from error

    def _kept(self, opened: _Open, step: int) -> set[int]:
        """The newest steps, and the best one: a NaN is never it."""
        newest = sorted({*_steps(self.folder), step})[-self.keep :]
        better = max if opened.mode == "max" else min
        values = opened.values
        best = [better(values, key=lambda s: values[s])] if values else []
        return {*newest, *best}


def load_checkpoint[T](path: str | pathlib.Path, like: T, at: str = "state") -> T:
    """Read a checkpoint by hand, whole or in part.

    **Arguments:**

    - `path`: a file that a `Checkpointer` wrote, or its folder for the newest one.
    - `like`: a tree with arrays of the same paths, shapes and dtypes: a whole state,
        such as `trainer.initialize(key)`, or one with `None` for what is not wanted.
    - `at`: where `like` belongs in the checkpoint: `"state"` is the whole state,
        `"state.es_state"` a part of it, `"key"` the run's key.

    **Returns:** `like` with the arrays from the checkpoint.

    **Raises:** `FileNotFoundError`; `CorruptFileError` where the file is not as it was
    written; `ValueError` that lists the arrays that differ, by path, with shapes.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        return read(path).fill(at, like)
    stored, damaged = _newest(path)
    for text in damaged:
        warn_user(text)
    if stored is None:
        raise FileNotFoundError(f"there is no checkpoint that can be read in {path}.")
    return stored.fill(at, like)


def _steps(folder: pathlib.Path) -> list[int]:
    """The steps of which there are checkpoints, oldest first."""
    matches = (_PATTERN.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in matches if match is not None)


def _newest(folder: pathlib.Path) -> tuple[Stored | None, list[str]]:
    """The newest checkpoint that can be read, and what was wrong with newer ones."""
    damaged = list[str]()
    for step in reversed(_steps(folder)):
        try:
            return read(folder / _NAME.format(step)), damaged
        except CorruptFileError as error:
            damaged.append(
                f"{error} The checkpoint before it is used, if there is one."
            )
    return None, damaged


def _configuration(trainer: Any) -> dict[str, str]:
    return configuration(trainer, leave_out=("train_steps", "callbacks"))


def _check_same_run(folder: pathlib.Path, stored: Stored, opened: _Open) -> None:
    """Refuse another key or configuration; warn of another environment."""
    wrong = differences(stored.meta["configuration"], opened.configuration)
    kind = str(opened.key.dtype)
    if (before := stored.leaves["key"]["dtype"]) != kind:
        wrong.append(f"key: {before} then, {kind} now")
    else:
        key = {"key": _text(opened.key)}
        wrong += differences({"key": _text(stored.fill("key", opened.key))}, key)
    start, now = stored.meta["start"], opened.start
    if start[0] == now[0] and start[1] != now[1]:
        wrong.append(f"the state at step {now[0]}: {start[1]} then, {now[1]} now")
    if wrong:
        raise ValueError(
            f"{folder} holds another run. What differs: {'; '.join(wrong)}. Choose "
            "another folder for this run, or make it the same again to go on with that "
            "one."
        )
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
