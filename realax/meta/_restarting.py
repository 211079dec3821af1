"""Restarts of a training inside of one run."""

from collections.abc import Callable
from typing import Any, Literal, SupportsIndex, override

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._arguments import arguments, flag, instance, optional, whole
from .._errors import describe
from .._keys import split
from .._trees import with_fields
from .._types import PRNGKeyArray, Step, Tree
from ..tasks import AbstractTask
from ..training import (
    AbstractCounters,
    AbstractState,
    AbstractStopping,
    AbstractTrainer,
    Callbacks,
    CallbacksLike,
    Logger,
)
from ..training._callbacks import as_callbacks
from ..training._checks import logger as a_logger, record as a_record
from ..training._metrics import metric_of
from ._inside import check_no_rules, inner, record_of, steps_of


# `(state, metrics) -> whether to begin anew`.
type When = Callable[[Any, Any], Any]


class RestartingState[S](AbstractState):
    """The state of a training with restarts.

    - `step`: the number of steps so far, of all restarts together.
    - `inner`: the state of the training in progress.
    - `counters`: the counters of the rule since the last restart; `()` for a function.
    - `restarts`: the number of restarts so far.
    - `best`: the state with the best value of the objective; `None` without
        `keep_best`.
    - `best_value`: that value; NaN before there is one.
    """

    step: Step
    inner: S
    counters: tuple[AbstractCounters, ...]
    restarts: Int[Array, ""]
    best: S | None
    best_value: Float[Array, ""]


class RecordOfInner(eqx.Module):
    """Records what a trainer records of the state of the training in progress.

    - `record`: the trainer's function.
    """

    record: Callable[[Any], Tree]

    def __call__(self, state: RestartingState[Any]) -> Tree:
        """Return what it records."""
        return self.record(state.inner)


def _condition(phrase: str, value: Any) -> Any:
    """Check that a value is a stopping rule or a function."""
    a_rule = isinstance(value, AbstractStopping)
    if isinstance(value, type) or not (callable(value) or a_rule):
        raise TypeError(
            f"{phrase} must be a stopping rule, such as "
            "`rx.EarlyStopping(patience=50)`, or a function `(state, metrics) -> "
            f"bool`, but got {describe(value)}."
        )
    return value


class Restarting[S: AbstractState, M, P](AbstractTrainer[RestartingState[S], Any, P]):
    """Begins a training anew, from a new key, whenever a condition holds.

    Restarts are compiled into the run. Metrics are those of the trainer, and besides
    `restarts`, their number so far, and `best_value`, the best value of the objective
    over all of them, which is also the objective of this trainer.

    **Arguments:**

    - `trainer`: the trainer, without callbacks.
    - `when`: a rule such as `rx.EarlyStopping(patience=50)`, whose counters begin anew
        with each restart; or a function `(state, metrics) -> bool` of the trainer's own
        state and metrics, traced into the step.
    - `keep_best`: whether `params` returns the parameters with the best value over all
        restarts, for which a second state is kept; else those of the training in
        progress.
    - `train_steps`: the number of steps of all restarts together; by default that of
        `trainer`.
    - `record`: a function of each `RestartingState`; by default what `trainer` records.
    - `callbacks`, `logger`, `progress_bar`: as for any trainer.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.
    """

    train_steps: int
    trainer: AbstractTrainer[S, M, P]
    when: AbstractStopping[Any] | When
    keep_best: bool = eqx.field(static=True)
    record: Callable[[RestartingState[S]], Tree] | None
    callbacks: Callbacks

    @arguments(
        trainer=instance(AbstractTrainer, 'rx.EvosaxTrainer(100, "CMA_ES", f, x)'),
        when=_condition,
        keep_best=flag,
        train_steps=optional(whole()),
        record=a_record,
        callbacks=as_callbacks,
        logger=a_logger,
    )
    def __init__(
        self,
        trainer: AbstractTrainer[S, M, P],
        when: AbstractStopping[Any] | When,
        keep_best: bool = True,
        *,
        train_steps: SupportsIndex | None = None,
        record: Callable[[RestartingState[S]], Tree] | None = None,
        callbacks: CallbacksLike = (),
        logger: Logger | None = None,
        progress_bar: bool = False,
    ):
        self.train_steps = steps_of(train_steps, trainer)
        self.trainer = inner("Restarting", trainer)
        remedy = "Pass it as `when`, or as `callbacks` to end all restarts together."
        check_no_rules("Restarting", trainer, remedy)
        self.when = when
        self.keep_best = keep_best
        self.record = record_of(record, trainer, RecordOfInner)
        self.callbacks = Callbacks.of(callbacks, logger, progress_bar)

    @property
    def objective(self) -> tuple[str, Literal["min", "max"]]:
        """The best value of the inner objective over all restarts."""
        return "best_value", self.trainer.objective[1]

    @property
    def evaluation_task(self) -> AbstractTask[Any] | None:
        """That of `trainer`."""
        return self.trainer.evaluation_task

    @override
    def evaluation_of(self, task: Any) -> Any:
        """Return that of `trainer`."""
        return self.trainer.evaluation_of(task)

    @property
    def xla_options(self) -> dict[str, Any]:
        """Those of `trainer`."""
        return self.trainer.xla_options

    @property
    def lone_xla_options(self) -> dict[str, Any]:
        """Those of `trainer`."""
        return self.trainer.lone_xla_options

    @property
    def initial_xla_options(self) -> dict[str, Any]:
        """Those of `trainer`."""
        return self.trainer.initial_xla_options

    @override
    def initialize(self, key: PRNGKeyArray, data: Tree = None) -> RestartingState[S]:
        """Return the state of the first training, before its first step."""
        state = self._base.initialize(key, data)
        return RestartingState(
            step=jnp.zeros((), jnp.int32),
            inner=state,
            counters=self._counters(),
            restarts=jnp.zeros((), jnp.int32),
            best=state if self.keep_best else None,
            best_value=jnp.full((), jnp.nan, jnp.result_type(float)),
        )

    @override
    def train_step(
        self, state: RestartingState[S], key: PRNGKeyArray, data: Tree = None
    ) -> tuple[RestartingState[S], dict[str, Any]]:
        """Make a step, and begin anew if it is time to.

        **Arguments:**

        - `state`: the state before the step.
        - `key`: the key of this step, of which that of a new beginning is made.
        - `data`: the data of this step.
        """
        trainer = self._base
        before: Any = state.inner
        inner_key, new_key = split(key)
        inner_key = trainer.step_key(trainer.run_key(inner_key), state.inner)
        after, found = trainer.train_step(state.inner, inner_key, data)
        after = with_fields(after, step=before.step + 1)
        metrics: Any = found
        name, mode = trainer.objective
        value = metric_of(metrics, name)
        better = value < state.best_value if mode == "min" else value > state.best_value
        better |= jnp.isnan(state.best_value) & ~jnp.isnan(value)
        best = state.best
        if self.keep_best:
            best = jax.lax.cond(better, lambda: after, lambda: state.best)
        over, counters = self._over(state, after, metrics)
        following, counters = jax.lax.cond(
            over,
            lambda: (trainer.initialize(new_key, data), self._counters()),
            lambda: (after, counters),
        )
        restarts = state.restarts + over
        best_value = jnp.where(better, value, state.best_value)
        state = with_fields(
            state,
            inner=following,
            counters=counters,
            restarts=restarts,
            best=best,
            best_value=best_value,
        )
        return state, {**metrics, "restarts": restarts, "best_value": best_value}

    @override
    def params(self, state: RestartingState[S]) -> P:
        """Return the best parameters over all restarts, or those in training."""
        kept = state.inner if state.best is None else state.best
        return self._base.params(kept)

    @override
    def best_params(self, state: RestartingState[S]) -> P:
        """Return the best parameters over all restarts, or of the last one."""
        kept = state.inner if state.best is None else state.best
        return self._base.best_params(kept)

    @override
    def warning(self, state: RestartingState[S]) -> str | None:
        """Return the warning of `trainer` about the training in progress."""
        return self.trainer.warning(state.inner)

    @override
    def check_new(self, state: RestartingState[S]) -> None:
        """Refuse a state from which no training can start."""
        self.trainer.check_new(state.inner)

    @override
    def placed(self, tree: Tree) -> Tree:
        """Return `tree` on the devices of `trainer`."""
        return self.trainer.placed(tree)

    @property
    def _base(self) -> AbstractTrainer[S, M, P]:
        return with_fields(self.trainer, train_steps=self.train_steps)

    def _counters(self) -> tuple[AbstractCounters, ...]:
        if not isinstance(self.when, AbstractStopping):
            return ()
        return (self.when.initial(self.trainer.objective),)

    def _over(self, state: Any, after: Any, metrics: Any) -> tuple[Any, Any]:
        if isinstance(self.when, AbstractStopping):
            counters = self.when.update(state.counters[0], metrics)
            return self.when.over(counters), (counters,)
        over: Any = self.when(after, metrics)
        if not eqx.is_array_like(over) or jnp.shape(over) != ():
            raise TypeError(
                "`when` of `Restarting` must return whether to begin anew, one truth "
                f"value, but got {describe(over)}."
            )
        return jnp.asarray(over, bool), ()
