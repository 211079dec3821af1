"""Early stopping."""

from typing import Any, Literal, SupportsIndex

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from ..._arguments import arguments, number, one_of, optional, text, whole
from .._metrics import metric_of
from ._base import AbstractCounters, AbstractStopping


class Progress(AbstractCounters):
    """How well a run goes by one metric.

    - `best`: the best value of the metric so far that was better by `min_delta`.
    - `reached`: the best value of all.
    - `since`: the number of steps since `best`.
    - `metric`, `mode`: the metric, and which way is better.

    Values have the sign with which smaller is better.
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
    chunks: from then on the state does not change, and the run ends.
    `data["stopped_at"]` is
    the step at which a run ended, and its metrics end there. Under `jit` and `vmap`,
    where lengths are fixed, each run has counters of its own, and the last row of
    metrics is repeated; a run that was over before its first step has rows of zeros.

    The counters are part of the state, `state.stopping`: two runs of 50 steps stop
    where one of 100 does, and a stopped run stays stopped. Another metric or mode
    begins to count anew.

    **Arguments:**

    - `metric`: the entry of the metrics to look at, its mean where it is an array, with
        dots to what lies deeper, such as `"eval_data.length"`; the trainer's objective
        if `None`. Of evolution on a task that draws random numbers that is the
        generation's mean, and else the best individual so far: `"mean_fitness"` and
        `"best_fitness"` name them.
    - `target`: the run ends when the metric has reached this value.
    - `patience`: the run ends after so many steps without a better value than before.
    - `min_delta`: by how much a value must be better to count as such, at least 0.
    - `mode`: which way is better; that of the trainer's objective if `None`.

    **Raises:** `ValueError` where neither `target` nor `patience` is given, or where
    there is no such metric.
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

    def begin(self, objective: tuple[str, str]) -> Progress:
        """Return the counters before the first step.

        **Arguments:**

        - `objective`: the trainer's.
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
