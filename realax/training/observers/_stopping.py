"""Stopping early."""

# pyright: reportUnknownMemberType=false

from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from ..._errors import closest, count
from ._base import AbstractObserver, Handle, host_field


class Stopped(eqx.Module):
    """What early stopping carries from step to step.

    - `now`: whether the run is over.
    - `best`: the best value of the metric so far.
    - `since`: how many steps ago that was.
    """

    now: Bool[Array, ""]
    best: Float[Array, ""]
    since: Int[Array, ""]


class EarlyStopping(AbstractObserver):
    """Ends a run when a metric has reached a target, or no longer improves.

    Decided inside the compiled step, so that the result does not depend on chunks: from
    then on the state stands still, and the host ends the run. `data["stopped_at"]` is
    the step at which a run ended, and its metrics end there. Under `jit` and `vmap`,
    where lengths are fixed, each run has a flag of its own, and the last row of metrics
    is repeated.

    **Arguments:**

    - `metric`: the entry of the metrics to look at, its mean where it is an array; the
        trainer's objective if `None`.
    - `target`: the run ends when the metric has reached this value.
    - `patience`: the run ends after so many steps without a better value than before.
    - `min_delta`: by how much a value must be better to count as such.
    - `mode`: which way is better; that of the trainer's objective if `None`.

    **Raises:** `ValueError` where neither `target` nor `patience` is given, or where
    there is no such metric.
    """

    metric: str | None = eqx.field(static=True, kw_only=True)
    every: int | None = host_field(default=None, kw_only=True)
    target: Float[Array, ""] | None = eqx.field(kw_only=True)
    patience: Int[Array, ""] | None = eqx.field(kw_only=True)
    min_delta: Float[Array, ""] = eqx.field(kw_only=True)
    mode: Literal["min", "max"] | None = eqx.field(static=True, kw_only=True)
    handle: Handle[Stopped] = eqx.field(static=True, kw_only=True)

    def __init__(
        self,
        metric: str | None = None,
        *,
        target: ArrayLike | None = None,
        patience: int | None = None,
        min_delta: ArrayLike = 0.0,
        mode: Literal["min", "max"] | None = None,
    ):
        if target is None and patience is None:
            raise ValueError(
                "`EarlyStopping` needs a `target` to reach, or a `patience` after "
                "which to give up, but neither came."
            )
        dtype = jnp.result_type(float)
        self.metric = metric
        self.target = None if target is None else jnp.asarray(target, dtype)
        steps = None if patience is None else count("patience", patience)
        self.patience = None if steps is None else jnp.asarray(steps, jnp.int32)
        self.min_delta = jnp.asarray(min_delta, dtype)
        self.mode = mode
        self.handle = Handle()
        self.every = None

    def begin(self) -> Stopped:
        """Before the first step."""
        return Stopped(
            now=jnp.asarray(False),
            best=jnp.asarray(jnp.inf, jnp.result_type(float)),
            since=jnp.zeros((), jnp.int32),
        )

    def update(
        self, stopped: Stopped, metrics: Any, objective: tuple[str, str]
    ) -> Stopped:
        """After a step.

        **Arguments:**

        - `stopped`: as it was before the step.
        - `metrics`: what the step returned.
        - `objective`: the trainer's.
        """
        name = self.metric or objective[0]
        if name not in metrics:
            raise ValueError(
                f"`metric`: there is no {name!r} among the metrics. "
                f"{closest(name, metrics)}"
            )
        sign = 1.0 if (self.mode or objective[1]) == "min" else -1.0
        value = sign * jnp.mean(metrics[name]).astype(self.min_delta.dtype)
        better = value < stopped.best - jnp.where(
            jnp.isfinite(stopped.best), self.min_delta, 0.0
        )
        since = jnp.where(better, 0, stopped.since + 1)
        now = stopped.now
        if self.target is not None:
            now |= value <= sign * self.target
        if self.patience is not None:
            now |= since >= self.patience
        return Stopped(now, jnp.where(better, value, stopped.best), since)
