"""A trainer with many seeds, or many values of its numbers, in one program."""

from collections.abc import Callable
from typing import Any, SupportsIndex, cast, override

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from .._arguments import arguments, instance, optional, whole
from .._trees import with_fields
from .._types import PRNGKeyArray, Tree
from ..training import (
    AbstractState,
    AbstractTrainer,
    Callbacks,
    CallbacksLike,
    Logger,
    Record,
)
from ..training._callbacks import as_callbacks
from ..training._checks import logger as a_logger, record as a_record
from ._abstract_lanes import AbstractLanes, check_devices, zero_step
from ._inside import inner, record_of, steps_of
from ._lane_stopping import EachLane
from ._lanes import LanesState, RecordOfLanes, a_lane, frozen, lanes_state
from ._table import Best, Table, a_run, best_lane, table_of


class Swept(eqx.Module):
    """The values of a number of a trainer in all lanes.

    - `name`: its name.
    - `place`: a function that finds it in the trainer.
    - `values`: the values, with a leading axis of lanes.
    """

    name: str = eqx.field(static=True)
    place: Callable[[Any], Any] = eqx.field(static=True)
    values: Array


class Replicated[S: AbstractState, M, P](AbstractLanes[S, M, P]):
    """Trains a trainer many times side by side, as one program: a run for each seed.

    It is a trainer like any other: it takes observers, goes on exactly from a
    checkpoint, and can be mapped over, nested and differentiated. Each run is a lane.
    Metrics have the axes `(steps, lanes, ...)`, and `params` returns parameters with a
    leading axis of lanes. Lane `i` is the run of `lane_trainer(i)` from
    `initialize(fold_in(init_key, s))` with the run's key `fold_in(run_key, s)`, where
    `s` is its entry of `seeds` and `init_and_train(key)` splits its key into
    `init_key, run_key = jr.split(key)`.

    Rules such as `EarlyStopping` hold for each lane: one that has ended no longer
    changes, and the run ends with the last lane. `data["metrics"]` repeats the last row
    of a lane, and `state.lanes.step` says when it ended. A `Logger` writes a curve for
    each lane, and a `ProgressBar` shows the smallest, the median and the largest value.

    `sweep` makes one whose lanes differ in numbers of the trainer.

    **Arguments:**

    - `trainer`: the trainer to replicate. Its stopping rules become those of the lanes;
        observers belong to `callbacks` here.
    - `n`: the number of lanes.
    - `n_devices`: the number of devices over which lanes are divided, a divisor of `n`,
        by `shard_map` inside of the compiled run. They exchange nothing.
    - `train_steps`: the number of steps of `train`; by default that of `trainer`.
    - `record`: a function of each `LanesState`, whose values are kept as
        `data["record"]`; by default what `trainer` records, of each lane.
    - `callbacks`, `logger`, `progress_bar`: as for any trainer.
    - `swept`, `seeds`: what `sweep` sets: the values of the lanes, and the number of
        the seed of each.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.
    """

    train_steps: int
    trainer: AbstractTrainer[S, M, P]
    n: int = eqx.field(static=True)
    n_devices: int = eqx.field(static=True)
    swept: tuple[Swept, ...]
    seeds: Int[Array, " lanes"]
    record: Callable[[LanesState[S]], Tree] | None
    callbacks: Callbacks

    @arguments(
        trainer=instance(AbstractTrainer, 'rx.PPO("CartPole-v1", 100_000)'),
        n=whole(),
        n_devices=whole(),
        train_steps=optional(whole()),
        record=a_record,
        callbacks=as_callbacks,
        logger=a_logger,
    )
    def __init__(
        self,
        trainer: AbstractTrainer[S, M, P],
        n: SupportsIndex,
        *,
        n_devices: SupportsIndex = 1,
        train_steps: SupportsIndex | None = None,
        record: Callable[[LanesState[S]], Tree] | None = None,
        callbacks: CallbacksLike = (),
        logger: Logger | None = None,
        progress_bar: bool = False,
        swept: tuple[Swept, ...] = (),
        seeds: Int[Array, " lanes"] | None = None,
    ):
        self.n, self.n_devices = cast(int, n), cast(int, n_devices)
        self.train_steps = steps_of(train_steps, trainer)
        self.trainer = inner("Replicated", trainer)
        self.swept = swept
        self.seeds = jnp.arange(self.n) if seeds is None else seeds
        self.record = record_of(record, trainer, RecordOfLanes)
        given = Callbacks.of(callbacks, logger, progress_bar)
        of_lanes = list[Any](trainer.callbacks.rules)
        for rule in given.rules:
            of_lanes += rule.rules if isinstance(rule, EachLane) else [rule]
        if of_lanes and trainer.lanes:
            raise ValueError(
                "`callbacks` of `Replicated` must be without stopping rules if "
                "`trainer` has lanes itself, for only one level of lanes can end one "
                f"by one, but got {type(of_lanes[0]).__name__}. Use `rx.sweep` with "
                "`seeds` for one level."
            )
        lengths = {len(self.seeds), *(len(one.values) for one in swept)}
        if lengths != {self.n}:
            raise ValueError(
                f"`n` of `Replicated` must be the number of `seeds` and of the values "
                f"of a sweep, {max(lengths)}, but got {self.n}. Make a new one: "
                "`rx.Replicated(trainer, n)`, or `rx.sweep`."
            )
        rule = EachLane(tuple(of_lanes), self.n) if of_lanes else None
        self.callbacks = Callbacks(list(given.observers), rule)
        check_devices("Replicated", self.n, self.n_devices, trainer)

    @property
    def lanes(self) -> tuple[str, ...]:
        """The names of the lanes: their values and seeds."""
        columns = {one.name: one.values for one in self.swept}
        if not self.swept or len({int(seed) for seed in self.seeds}) > 1:
            columns["seed"] = self.seeds
        names = [
            " ".join(f"{name}={_short(values[i])}" for name, values in columns.items())
            for i in range(self.n)
        ]
        if len(set(names)) < self.n:  # of vectors, or of values that are too close
            names = [f"{name} lane={i}" for i, name in enumerate(names)]
        return tuple(names)

    @property
    def values(self) -> dict[str, Array]:
        """The values of the numbers that differ between the lanes, by their names."""
        return {one.name: one.values for one in self.swept}

    @arguments(lane=a_lane)
    def lane_trainer(self, lane: SupportsIndex) -> AbstractTrainer[S, M, P]:
        """Return the trainer whose run is a lane.

        **Arguments:**

        - `lane`: the number of the lane, from 0.

        **Raises:** `IndexError` if there is no such lane.
        """
        number = self.number_of(lane)
        single = self.trainer_with(tuple(one.values[number] for one in self.swept))
        rules = () if self._rule is None else self._rule.rules
        return with_fields(single, callbacks=Callbacks(list(rules)))

    @arguments(data=a_run)
    def table(self, data: Record[Any]) -> Table:
        """Return a summary of a run: the values, seed and objective of each lane.

        **Arguments:**

        - `data`: the record of the run.

        **Raises:** `ValueError` for the record of a run without a step, or of another
        trainer.
        """
        seeds = [int(seed) for seed in self.seeds]
        return table_of(self.values, seeds, data, self.objective)

    @arguments(state=lanes_state, data=a_run)
    def best(self, state: LanesState[S], data: Record[Any]) -> Best[P]:
        """Return the lane with the best value of the objective in a run.

        **Arguments:**

        - `state`: the state after the run.
        - `data`: the record of the run.

        **Raises:** `ValueError` if no lane ever had a finite value.
        """
        lane, value = best_lane(self.table(data))
        trainer = self.lane_trainer(lane)
        return Best(lane, value, trainer, trainer.best_params(self.lane(state, lane)))

    @override
    def initialize(self, key: PRNGKeyArray, data: Tree = None) -> LanesState[S]:
        """Return the state of all lanes before their first step.

        **Arguments:**

        - `key`: the state's key, from which those of the lanes are derived.
        - `data`: the data of the run, which all lanes share.
        """
        return LanesState(zero_step(), self.first_lanes(self._values, key, data))

    @override
    def train_step(
        self, state: LanesState[S], key: Key[Array, "*lanes"], data: Tree = None
    ) -> tuple[LanesState[S], M]:
        """Make a step of each lane that is not over.

        **Arguments:**

        - `state`: the state before the step.
        - `key`: the keys of the lanes in this step.
        - `data`: the data of this step, which all lanes share.

        **Returns:** The next state, and the metrics with a leading axis of lanes. Those
        of a lane that is over are NaN, and 0 where they are whole numbers.
        """
        lanes, metrics = self.step_of_lanes(state, key, data)
        if (rule := self._rule) is not None and state.stopping:
            (counters,) = cast(Any, state.stopping)
            over = rule.lanes_over(counters)
            lanes = frozen(over, state.lanes, lanes)
            metrics = frozen(over, jax.tree.map(_nothing, metrics), metrics)
        return with_fields(state, lanes=lanes), metrics

    @override
    def settled(
        self, state: LanesState[S], rows: Tree, first: Int[Array, " lanes"]
    ) -> Tree:
        """Return the rows of a run, where lanes that ended early repeat their last.

        A lane that was over before has none in this run: its numbers are NaN.
        """
        if self._rule is None:
            return rows
        metrics: Any = rows["metrics"]
        count = len(jax.tree.leaves(metrics)[0])
        last = jnp.maximum(state.steps - first - 1, 0)
        index = jnp.minimum(jnp.arange(count)[:, None], last)
        pick = lambda x: x[index, jnp.arange(self.n)]
        return {**rows, "metrics": jax.tree.map(pick, metrics)}

    @override
    def params(self, state: LanesState[S]) -> P:
        """Return the trained parameters of all lanes, stacked."""
        return self.of_lanes(lambda trainer, lane: trainer.params(lane), state)

    @override
    def best_params(self, state: LanesState[S]) -> P:
        """Return the best parameters of each lane, stacked."""
        return self.of_lanes(lambda trainer, lane: trainer.best_params(lane), state)

    @override
    def values_of(self, state: LanesState[S]) -> tuple[Array, ...]:
        """Return the values of the lanes, which a run does not change."""
        del state
        return self._values

    @property
    def places(self) -> tuple[Callable[[Any], Any], ...]:
        """The places of the numbers that differ between the lanes."""
        return tuple(one.place for one in self.swept)

    @property
    def _rule(self) -> EachLane | None:
        found = (one for one in self.callbacks.rules if isinstance(one, EachLane))
        return next(found, None)

    @property
    def _values(self) -> tuple[Array, ...]:
        return tuple(one.values for one in self.swept)


def _nothing(leaf: Array) -> Array:
    floating = jnp.issubdtype(leaf.dtype, jnp.inexact)
    return jnp.full_like(leaf, jnp.nan) if floating else jnp.zeros_like(leaf)


def _short(value: Any) -> str:
    return f"{float(value):.4g}" if jnp.ndim(value) == 0 else "[...]"
