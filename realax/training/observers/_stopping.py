"""Stopping early."""

import functools
from typing import Any, Literal, SupportsIndex

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from ..._arguments import arguments, number, one_of, optional, text, whole
from ._base import AbstractObserver
from ._metrics import metric_of


class Stopped(eqx.Module):
    """The counters of early stopping, a part of the state.

    - `best`: the best value of the metric so far, by `min_delta` at least.
    - `reached`: the best value at all.
    - `since`: how many steps ago `best` was.
    - `metric`, `mode`: what is counted.

    Values have the sign with which smaller is better.
    """

    best: Float[Array, ""]
    reached: Float[Array, ""]
    since: Int[Array, ""]
    metric: str = eqx.field(static=True)
    mode: str = eqx.field(static=True)


class EarlyStopping(AbstractObserver):
    """Ends a run when a metric has reached a target, or no longer improves.

    Decided inside the compiled step, so that the result does not depend on chunks: from
    then on the state stands still, and the host ends the run. `data["stopped_at"]` is
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
        self.every = None

    def begin(self, objective: tuple[str, str]) -> Stopped:
        """The counters before the first step.

        **Arguments:**

        - `objective`: the trainer's.
        """
        worst = jnp.asarray(jnp.inf, jnp.result_type(float))
        return Stopped(
            best=worst,
            reached=worst,
            since=jnp.zeros((), jnp.int32),
            metric=self.metric or objective[0],
            mode=self.mode or objective[1],
        )

    def update(self, stopped: Stopped, metrics: Any) -> Stopped:
        """The counters after a step that returned `metrics`."""
        sign = 1.0 if stopped.mode == "min" else -1.0
        value = sign * metric_of(metrics, stopped.metric).astype(stopped.best.dtype)
        better = value < stopped.best - jnp.where(
            jnp.isfinite(stopped.best), self.min_delta, 0.0
        )
        return Stopped(
            best=jnp.where(better, value, stopped.best),
            reached=jnp.where(value < stopped.reached, value, stopped.reached),
            since=jnp.where(better, 0, stopped.since + 1),
            metric=stopped.metric,
            mode=stopped.mode,
        )

    def over(self, stopped: Stopped) -> Bool[Array, "*lanes"]:
        """Whether a run with these counters is over."""
        over = jnp.zeros(stopped.since.shape, bool)
        if self.target is not None:
            sign = 1.0 if stopped.mode == "min" else -1.0
            over |= stopped.reached <= sign * self.target
        if self.patience is not None:
            over |= stopped.since >= self.patience
        return over


def with_counters(
    stopping: tuple[Stopped, ...],
    rules: tuple[EarlyStopping, ...],
    objective: tuple[str, str],
) -> tuple[Stopped, ...]:
    """Counters for `rules`: those of `stopping` that count the same, or new ones."""
    left = {(one.metric, one.mode, i): one for i, one in enumerate(stopping)}
    found = list[Stopped]()
    for rule in rules:
        new = rule.begin(objective)
        alike = [key for key in left if key[:2] == (new.metric, new.mode)]
        found.append(left.pop(alike[0]) if alike else new)
    return tuple(found)


def is_over(rules: tuple[EarlyStopping, ...], state: Any) -> Bool[Array, ""]:
    """Whether one of the rules says that the run is over."""
    over = [rule.over(one) for rule, one in zip(rules, state.stopping, strict=True)]
    return functools.reduce(jnp.logical_or, over, jnp.asarray(False))
