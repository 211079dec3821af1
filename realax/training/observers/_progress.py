"""A progress bar."""

import operator
import sys
from typing import Any, SupportsIndex, override

import equinox as eqx
import numpy as np

from ..._arguments import arguments, optional, text, whole
from ..._types import Tree
from .._metrics import MetricOf
from ._base import AbstractObserver, Handle
from ._run import Run


class _Open:
    """A bar, and the metric that it shows."""

    def __init__(self, bar: Any, metric: str):
        self.bar = bar
        self.metric = metric


class ProgressBar(AbstractObserver):
    """Shows the steps, their speed, the time left and a metric.

    A tqdm bar, in terminals and notebooks. Nothing is written where the standard error
    is neither.

    **Arguments:**

    - `metric`: which of the metrics to show, its mean where it is an array; the
        trainer's objective if `None`. What lies deeper is reached by dots:
        `"eval_data.length"`.

    **Raises:** `ValueError` with the closest matches where there is no such metric.
    """

    metric: str | None
    every: int | None = eqx.field(default=None, kw_only=True)
    handle: Handle[_Open] = eqx.field(static=True)

    @arguments(metric=optional(text), every=optional(whole()))
    def __init__(
        self, metric: str | None = None, *, every: SupportsIndex | None = None
    ):
        self.metric = metric
        self.every = None if every is None else operator.index(every)
        self.handle = Handle()

    @override
    def on_start(self, run: Run, state: Any) -> None:
        """Open the bar at the state's step."""
        from tqdm.auto import tqdm  # imports what a notebook needs: late

        # `None` hides the bar where nobody looks; in a notebook tqdm would hide it too.
        bar = tqdm(
            total=run.end,
            initial=int(state.step),
            unit="step",
            disable=False if _in_notebook() else None,
            dynamic_ncols=True,
        )
        self.handle.value = _Open(bar, self._metric_of(run))

    @override
    def select(self, run: Run) -> MetricOf:
        """Return the metric that is shown, as one number."""
        return MetricOf(self._metric_of(run))

    def _metric_of(self, run: Run) -> str:
        return self.metric or run.objective[0]

    @override
    def on_chunk(self, steps: np.ndarray, selected: Tree, state: Any) -> None:
        """Move the bar."""
        del state
        if (opened := self.handle.value) is not None:
            opened.bar.set_postfix(
                {opened.metric: f"{selected[-1]:.4g}"}, refresh=False
            )
            opened.bar.update(len(steps))

    @override
    def on_end(self, state: Any, error: BaseException | None) -> None:
        """Leave the bar as it stands."""
        del state, error
        if (opened := self.handle.take()) is not None:
            opened.bar.close()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
