"""Early stopping."""

from typing import Any, Literal, SupportsIndex

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from ..._arguments import arguments, number, one_of, optional, text, whole
from .._metrics import metric_of
from ._base import AbstractCounters, AbstractStopping


class Progress(AbstractCounters):
    """The progress of a run in one metric.

    - `best`: the last value of the metric that improved by more than `min_delta`.
    - `reached`: the best value so far.
    - `since`: the number of steps since `best`.
    - `metric`, `mode`: the metric, and `"min"` or `"max"`.

    Values are negated for `"max"`, so that smaller is better.
    """

    best: Float[Array, ""]
    reached: Float[Array, ""]
    since: Int[Array, ""]
    metric: str = eqx.field(static=True)
    mode: str = eqx.field(static=True)

    @property
    def label(self) -> str:
        """The metric and its mode."""
        return f"{self.metric} {self.mode}"


class EarlyStopping(AbstractStopping[Progress]):
    """Ends a run when a metric has reached a target, or no longer improves.

    The decision is made inside the compiled step, so that the result does not depend on
    the division into chunks. `data["stopped_at"]` is the step at which a run ended, and
    its metrics end there. Under `jit` and `vmap`, where lengths are fixed, each run has
    counters of its own, the state no longer changes, and the last row of metrics is
    repeated; a run that was over before its first step has rows of zeros.

    The counters are part of the state, `state.stopping`: two runs of 50 steps stop at
    the same step as one of 100, and a stopped run stays stopped. Counting begins anew
    with another metric or mode.

    **Arguments:**

    - `metric`: the entry of the metrics to watch, its mean if it is an array, with dots
        to deeper entries, such as `"eval_data.length"`; the trainer's objective if
        `None`. In evolution, the objective is `"mean_fitness"`, the mean of the
        generation, for a task that draws random numbers, and otherwise
        `"best_fitness"`, that of the best individual so far.
    - `target`: the run ends when the metric has reached this value.
    - `patience`: the run ends after this many steps without an improvement.
    - `min_delta`: a value must be better by more than this to be an improvement; at
        least 0.
    - `mode`: `"min"` if smaller values are better, `"max"` if larger ones; the mode of
        the trainer's objective if `None`.

    **Raises:** `ValueError` if neither `target` nor `patience` is given, or if there is
    no such metric.
    """

    metric: str | None = eqx.field(static=True, kw_only=True)
    target: Float[Array, ""] | None = eqx.field(kw_only=True)
    patience: Int[Array, ""] | None = eqx.field(kw_only=True)
    min_delta: Float[Array, ""] = eqx.field(kw_only=True)
    mode: Literal["min", "max"] | None = eqx.field(static=True, kw_only=True)

    @arguments(
        metric=optional(text),
        target=optional(number()),
        patience=optional(whole()),
        min_delta=number(least=0.0),
        mode=optional(one_of("min", "max")),
    )
    def __init__(
        self,
        metric: str | None = None,
        *,
        target: ArrayLike | None = None,
        patience: SupportsIndex | None = None,
        min_delta: ArrayLike = 0.0,
        mode: Literal["min", "max"] | None = None,
    ):
        if target is None and patience is None:
            raise ValueError(
                "`EarlyStopping` needs a `target` to reach, or a `patience` after "
                "which to give up, but got neither."
            )
        dtype = jnp.result_type(float)
        self.metric = metric
        self.target = None if target is None else jnp.asarray(target, dtype)
        self.patience = (
            None if patience is None else jnp.asarray(int(patience), jnp.int32)
        )
        self.min_delta = jnp.asarray(min_delta, dtype)
        self.mode = mode

    def initial(self, objective: tuple[str, str]) -> Progress:
        """Return the counters before the first step.

        **Arguments:**

        - `objective`: the objective of the trainer.
        """
        worst = jnp.asarray(jnp.inf, jnp.result_type(float))
        return Progress(
            best=worst,
            reached=worst,
            since=jnp.zeros((), jnp.int32),
            metric=self.metric or objective[0],
            mode=self.mode or objective[1],
        )

    def update(self, counters: Progress, metrics: Any) -> Progress:
        """Return the counters after a step that returned `metrics`."""
        sign = 1.0 if counters.mode == "min" else -1.0
        value = sign * metric_of(metrics, counters.metric).astype(counters.best.dtype)
        better = value < counters.best - jnp.where(
            jnp.isfinite(counters.best), self.min_delta, 0.0
        )
        return Progress(
            best=jnp.where(better, value, counters.best),
            reached=jnp.where(value < counters.reached, value, counters.reached),
            since=jnp.where(better, 0, counters.since + 1),
            metric=counters.metric,
            mode=counters.mode,
        )

    def over(self, counters: Progress) -> Bool[Array, "*lanes"]:
        """Return whether a run with these counters is over."""
        over = jnp.zeros(counters.since.shape, bool)
        if self.target is not None:
            sign = 1.0 if counters.mode == "min" else -1.0
            over |= counters.reached <= sign * self.target
        if self.patience is not None:
            over |= counters.since >= self.patience
        return over
