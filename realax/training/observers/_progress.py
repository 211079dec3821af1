"""A progress bar."""

import operator
import sys
from typing import Any, SupportsIndex, override

import equinox as eqx
import numpy as np

from ..._arguments import arguments, optional, text, whole
from ..._check import no_type_check
from ..._types import Tree
from .._metrics import MetricOf, SpreadOf
from ._base import AbstractObserver, Handle
from ._run import Run


class _Open:
    """An open bar, and the metric that it shows."""

    def __init__(self, bar: Any, metric: str):
        self.bar = bar
        self.metric = metric


class ProgressBar(AbstractObserver):
    """Shows the steps, their speed, the time left and a metric in a tqdm bar.

    Of runs side by side, such as those of `rx.Replicated`, the smallest, the median and
    the largest value is shown.

    The bar is shown in terminals and notebooks. Nothing is written if the standard
    error is neither.

    **Arguments:**

    - `metric`: the metric to show, its mean if it is an array; the trainer's objective
        if `None`. Dots lead to deeper entries: `"eval_data.length"`.
    - `every`: chunks, after which the bar advances, end at multiples of this many
        steps; if `None`, anywhere.

    **Raises:** `ValueError` with the closest matches if there is no such metric.
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
        from tqdm.auto import tqdm  # imported late, because it imports notebook widgets

        # `None` hides the bar unless stderr is a terminal, which a notebook is not.
        bar = tqdm(
            total=run.end,
            initial=int(state.step),
            unit="step",
            disable=False if _in_notebook() else None,
            dynamic_ncols=True,
        )
        self.handle.value = _Open(bar, self._metric_of(run))

    @override
    def select(self, run: Run) -> MetricOf | SpreadOf:
        """Return the metric to show, as one number or as the spread over lanes."""
        kind = SpreadOf if run.trainer.lanes else MetricOf
        return kind(self._metric_of(run))

    def _metric_of(self, run: Run) -> str:
        return self.metric or run.objective[0]

    @override
    @no_type_check
    def on_chunk(self, steps: np.ndarray, selected: Tree, state: Any) -> None:
        """Advance the bar."""
        del state
        if (opened := self.handle.value) is not None:
            shown = " ".join(f"{value:.4g}" for value in np.atleast_1d(selected[-1]))
            opened.bar.set_postfix({opened.metric: shown}, refresh=False)
            opened.bar.update(len(steps))

    @override
    def on_end(self, state: Any, error: BaseException | None) -> None:
        """Close the bar, and leave it on the screen."""
        del state, error
        if (opened := self.handle.take()) is not None:
            opened.bar.close()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
