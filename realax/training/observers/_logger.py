"""Logging of every step to a file, TensorBoard and wandb."""

import contextlib
import operator
import pathlib
from collections.abc import Callable
from typing import Any, SupportsIndex, override

import equinox as eqx
import jax
import numpy as np

from ..._arguments import arguments, flag, function, optional, path, whole
from ..._compile import compiled
from ..._errors import describe
from ..._storage._atomic import make_folder
from ..._types import Tree
from ._base import AbstractObserver, Handle
from ._jsonl import JsonLines, Row
from ._log_rows import joined, rows_of
from ._logged import Logged, MetricsFn, checkpoint_of
from ._params import store_params
from ._run import Run
from ._sinks import Sink
from ._tensorboard import TensorBoard
from ._wandb import Wandb


class _Open:
    """The run of wandb, and the sinks of the run in progress."""

    wandb: Wandb | None = None
    logged: Logged | None = None
    run: Run | None = None  # in progress
    lanes: tuple[str, ...] = ()  # the names of its lanes
    steps: np.ndarray = np.zeros(0)  # of each lane, before the next chunk
    sinks: tuple[Sink, ...] = ()
    running: bool = False
    started: bool = False  # whether the first rows have started the sinks


class Logger(AbstractObserver):
    """Logs every step of a run once and in order.

    Rows are written at the end of each chunk of steps. The local file is the complete
    record; wandb mirrors it, and a failure of wandb does not stop the run. The row of a
    chunk's last step also holds what other observers `measure` there. If a
    `Checkpointer` restores a run, the rows after the restored step are dropped: by
    truncation of the file, by the purge step of TensorBoard, and by the run's id at
    wandb online. Offline, a new run of wandb begins that names the one before it in its
    `config`. A run that has no step to make leaves its log unchanged.

    One run owns its file and its folder, and a second run is refused. Damaged lines of
    the file are moved to `<log_file>.damaged`.

    **Arguments:**

    - `wandb_log`: whether to log to wandb. Call `init` before the run and `finish`
        after the last one.
    - `metrics_fn`: `(state, metrics) -> (row, checkpoint, step)`, traced into the
        compiled step: the row to log, the tree to save, and the step to log it under.
        If `None`, the trainer's own `log_row` and `best_params`.
    - `ckpt_file`: the tree to save is written to `<ckpt_file>_<step>.eqx`, which
        `load_params` reads.
    - `ckpt_freq`: save at multiples of this many steps.
    - `log_file`: a file of JSON lines, one for each step. A run that starts at step 0
        overwrites it.
    - `log_dir`: a folder for TensorBoard; `pip install "realax[tensorboard]"`.
    - `host_log_transform`: `(row) -> row`, called on the host with numbers and lists.
    - `verbose`: whether to print the last row of each chunk.

    **Raises:** `ValueError` or `TypeError` that names the argument and says what to do.
    """

    metrics_fn: MetricsFn | None = eqx.field(kw_only=True)
    every: int | None = eqx.field(default=None, kw_only=True)
    wandb_log: bool = eqx.field(kw_only=True)
    ckpt_file: pathlib.Path | None = eqx.field(kw_only=True)
    ckpt_freq: int = eqx.field(kw_only=True)
    log_file: pathlib.Path | None = eqx.field(kw_only=True)
    log_dir: pathlib.Path | None = eqx.field(kw_only=True)
    host_log_transform: Callable[[Row], Row] | None = eqx.field(kw_only=True)
    verbose: bool = eqx.field(kw_only=True)
    handle: Handle[_Open] = eqx.field(static=True, kw_only=True)

    @arguments(
        wandb_log=flag,
        metrics_fn=optional(function("(state, metrics) -> (row, checkpoint, step)")),
        ckpt_file=optional(path),
        ckpt_freq=whole(),
        log_file=optional(path),
        log_dir=optional(path),
        host_log_transform=optional(function("(row) -> row")),
        verbose=flag,
    )
    def __init__(
        self,
        wandb_log: bool = False,
        metrics_fn: MetricsFn | None = None,
        ckpt_file: str | pathlib.Path | None = None,
        ckpt_freq: SupportsIndex = 100,
        *,
        log_file: str | pathlib.Path | None = None,
        log_dir: str | pathlib.Path | None = None,
        host_log_transform: Callable[[Row], Row] | None = None,
        verbose: bool = False,
    ):
        def as_path(given: str | pathlib.Path | None) -> pathlib.Path | None:
            return None if given is None else pathlib.Path(given)

        self.metrics_fn = metrics_fn
        self.wandb_log = wandb_log
        self.ckpt_file = as_path(ckpt_file)
        self.ckpt_freq = operator.index(ckpt_freq)
        self.log_file = as_path(log_file)
        self.log_dir = as_path(log_dir)
        self.host_log_transform = host_log_transform
        self.verbose = verbose
        self.every = None if ckpt_file is None else self.ckpt_freq
        self.handle = Handle(_Open())

    def init(self, **kws: Any) -> None:
        """Begin a run of wandb; of several processes, on the first alone.

        **Arguments:**

        - `kws`: the arguments of `wandb.init`, such as `project`, `config` and
            `mode="offline"`.

        **Raises:** the errors of `wandb.init`, such as that of a missing login.
        """
        first = not jax.distributed.is_initialized() or jax.process_index() == 0
        if self.wandb_log and first:
            file, id_file = self.log_file or self.ckpt_file, None
            if file is not None:
                id_file = file.with_name(f"{file.name}.wandb.json")
            self._opened.wandb = Wandb(id_file, kws)

    def finish(self) -> None:
        """End the run of wandb."""
        if self._opened.wandb is not None:
            self._opened.wandb.finish()
            self._opened.wandb = None

    @property
    def _opened(self) -> _Open:
        if self.handle.value is None:
            self.handle.value = _Open()
        return self.handle.value

    @override
    def claim(self) -> None:
        """Lock the files that are written."""
        opened = self._opened
        if opened.running:
            raise RuntimeError(
                "this `Logger` watches another run at the moment. Build one for each "
                "run, with files of its own."
            )
        if self.wandb_log and opened.wandb is None:
            raise RuntimeError(
                "`Logger(wandb_log=True)` must be initialised before a run: "
                '`logger.init(project="...", config={...})`.'
            )
        if self.ckpt_file is not None:
            make_folder(self.ckpt_file.parent, "ckpt_file")
        opened.running = True
        try:
            opened.sinks = tuple(
                sink
                for sink in (
                    None if self.log_file is None else JsonLines(self.log_file),
                    None if self.log_dir is None else TensorBoard(self.log_dir),
                    opened.wandb,
                )
                if sink is not None
            )
            for sink in opened.sinks:
                sink.open()
        except BaseException:
            self.release()
            raise

    @override
    def release(self) -> None:
        """Close and release the files."""
        opened = self._opened
        opened.running, opened.run, opened.logged = False, None, None
        sinks, opened.sinks = opened.sinks, ()
        with contextlib.ExitStack() as stack:  # closes the others even if one fails
            for sink in sinks:
                stack.callback(sink.close)

    @override
    def on_start(self, run: Run, state: Any) -> None:
        """Remember the run."""
        self._opened.run, self._opened.started = run, False
        self._opened.steps = np.asarray(state.steps)
        self._opened.lanes = run.trainer.lanes

    @override
    def select(self, run: Run) -> Logged:
        """Return the selection of the row of each step."""
        saving = self.ckpt_file is not None
        self._opened.logged = Logged(run.compiled_trainer, self.metrics_fn, saving)
        return self._opened.logged

    @override
    def on_chunk(self, steps: np.ndarray, selected: Tree, state: Any) -> None:
        """Write the rows of a chunk, and save at multiples of `ckpt_freq`."""
        opened, rows = self._opened, self._rows(steps, selected)
        if not opened.started:
            for sink in opened.sinks:
                since = None if opened.run is None else opened.run.since
                sink.start(int(steps[0]) - 1, since, opened.lanes)
            opened.started = True
        for sink in opened.sinks:
            sink.write(rows)
        if self.verbose and rows:
            for _, step, row in rows[-max(1, len(opened.lanes)) :]:
                shown = (f"{name}={_short(value)}" for name, value in row.items())
                print(f"step {step}:", *shown, flush=True)
        if self.ckpt_file is not None and steps[-1] % self.ckpt_freq == 0:
            metrics = jax.tree.map(lambda x: x[-1], selected["metrics"])
            chosen = compiled(checkpoint_of, {})(opened.logged, state, metrics)
            file = f"{self.ckpt_file.name}_{int(selected['step'][-1].max())}.eqx"
            store_params(self.ckpt_file.with_name(file), chosen, "ckpt_file")

    @override
    def on_end(self, state: Any, error: BaseException | None) -> None:
        """Close and release the files."""
        del state, error
        self.release()

    def _rows(self, steps: np.ndarray, selected: Any) -> list[tuple[int, int, Row]]:
        measured = {} if self._opened.run is None else self._opened.run.measured
        opened = self._opened
        rows = rows_of(steps, selected, opened.lanes, opened.steps)
        if opened.lanes:
            opened.steps = selected["steps"][-1]
        if measured:  # seldom, and of the chunk's last step alone
            last = int(steps[-1])
            rows = [
                (trained, step, joined(row, measured) if trained == last else row)
                for trained, step, row in rows
            ]
        if self.host_log_transform is None:
            return rows
        transform: Callable[[Row], Any] = self.host_log_transform
        found = list[tuple[int, int, Row]]()
        for trained, step, row in rows:
            lane = {"lane": row["lane"]} if self._opened.lanes else {}
            changed = transform(row)
            if not isinstance(changed, dict):
                raise TypeError(
                    "`host_log_transform` must return the row to log, a dictionary, "
                    f"but got {describe(changed)}. End it with `return row`."
                )
            found.append((trained, step, {**changed, **lane}))
        return found


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
