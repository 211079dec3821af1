"""Population-based training."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex, cast, override

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from .._arguments import arguments, instance, number, optional, whole
from .._errors import describe
from .._keys import fold_in, quick, split
from .._trees import with_fields
from .._types import PRNGKeyArray, Tree
from ..tasks import AbstractTask
from ..training import (
    AbstractState,
    AbstractTrainer,
    Callbacks,
    CallbacksLike,
    Logger,
)
from ..training._callbacks import as_callbacks
from ..training._checks import logger as a_logger, record as a_record
from ..training._metrics import metric_of
from ._abstract_lanes import AbstractLanes, check_devices, zero_step
from ._explored import Explored, bounds, explored
from ._inside import check_no_rules, inner, record_of, steps_of
from ._lanes import LanesState, RecordOfLanes, lane_of
from ._places import Place


class PopulationState[S](LanesState[S]):
    """The state of a population.

    - `step`: the number of steps so far.
    - `lanes`: the states of the members, stacked.
    - `values`: the members' values of the numbers that are explored, by their names.
    - `scores`: the value of each member's objective in the last step, where NaN is
        worse than any number.
    """

    values: dict[str, Float[Array, " lanes"]]
    scores: Float[Array, " lanes"]


class PopulationBased[S: AbstractState, M, P](AbstractLanes[S, M, P]):
    """Trains a population side by side, and explores numbers of the trainer meanwhile.

    At every so many steps, the worst members become copies of the best ones, with
    numbers that are multiplied by one of two factors. All of it is compiled into the
    run. `params` returns the parameters of the member with the best last score.

    Metrics are those of the trainer with the axes `(steps, members, ...)`, and besides
    `explored`, the members' values by name, and `source`, the member that each one
    became a copy of in this step; its own number if it did not.

    **Arguments:**

    - `trainer`: the trainer of a member, without callbacks.
    - `n`: the number of members, at least 2.
    - `explore`: the bounds `(low, high)` of each number that is explored, by its place:
        the path of an attribute such as `"learning_rate"`, or a function. First values
        are uniform between them; their logarithms are, if both are positive.
    - `every`: the number of steps between two selections.
    - `share`: the share of members that are replaced, and of those that are copied, at
        most a half.
    - `factors`: the two factors.
    - `n_devices`, `train_steps`, `record`: as for `Replicated`.
    - `callbacks`, `logger`, `progress_bar`: as for any trainer. Rules such as
        `EarlyStopping` watch the mean over the members.

    **Raises:** `ValueError` or `TypeError` that names the argument and the remedy.

    Source: M. Jaderberg et al., Population Based Training of Neural Networks,
    arXiv:1711.09846.
    """

    train_steps: int
    trainer: AbstractTrainer[S, M, P]
    n: int = eqx.field(static=True)
    explore: tuple[Explored, ...]
    every: int = eqx.field(static=True)
    share: float = eqx.field(static=True)
    factors: Float[Array, "2"]
    n_devices: int = eqx.field(static=True)
    record: Callable[[PopulationState[S]], Tree] | None
    callbacks: Callbacks

    @arguments(
        trainer=instance(AbstractTrainer, 'rx.PPO("CartPole-v1", 100_000)'),
        n=whole(2),
        explore=bounds,
        every=whole(),
        share=number(above=0.0, most=0.5),
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
        explore: Mapping[Place, Any] | tuple[Explored, ...],
        every: SupportsIndex = 10,
        *,
        share: float = 0.25,
        factors: ArrayLike | Sequence[ArrayLike] = (0.8, 1.25),
        n_devices: SupportsIndex = 1,
        train_steps: SupportsIndex | None = None,
        record: Callable[[PopulationState[S]], Tree] | None = None,
        callbacks: CallbacksLike = (),
        logger: Logger | None = None,
        progress_bar: bool = False,
    ):
        self.n, self.n_devices = cast(int, n), cast(int, n_devices)
        self.train_steps = steps_of(train_steps, trainer)
        self.trainer = inner("PopulationBased", trainer)
        remedy = (
            "Members are compared at the same step. Pass it as `callbacks` of "
            "`PopulationBased`, where it watches the mean."
        )
        check_no_rules("PopulationBased", trainer, remedy)
        self.explore = explored(self.trainer, explore)
        self.every = cast(int, every)
        self.share = float(share)
        self.factors = jnp.asarray(factors, jnp.result_type(float))
        if self.factors.shape != (2,) or not jnp.all(self.factors > 0):
            raise ValueError(
                "`factors` of `PopulationBased` must be two positive numbers, but got "
                f"{describe(factors)}."
            )
        self.record = record_of(record, trainer, RecordOfLanes)
        self.callbacks = Callbacks.of(callbacks, logger, progress_bar)
        check_devices("PopulationBased", self.n, self.n_devices, trainer)

    @property
    def lanes(self) -> tuple[str, ...]:
        """The names of the members."""
        return tuple(f"member={i}" for i in range(self.n))

    @property
    def evaluation_task(self) -> AbstractTask[Any] | None:
        """That of `trainer`, for the parameters of the best member."""
        return self.trainer.evaluation_task

    @override
    def evaluation_of(self, task: Any) -> Any:
        """Return that of `trainer`, for the parameters of the best member."""
        return self.trainer.evaluation_of(task)

    @property
    def seeds(self) -> Int[Array, " lanes"]:
        """The numbers of the members."""
        return jnp.arange(self.n)

    @property
    def places(self) -> tuple[Callable[[Any], Any], ...]:
        """The places of the numbers that are explored."""
        return tuple(one.place for one in self.explore)

    @override
    def values_of(self, state: LanesState[S]) -> tuple[Array, ...]:
        """Return the members' values of these numbers."""
        population = cast(PopulationState[S], state)
        return tuple(population.values[one.name] for one in self.explore)

    @override
    def initialize(self, key: PRNGKeyArray, data: Tree = None) -> PopulationState[S]:
        """Return the population before its first step.

        **Arguments:**

        - `key`: the state's key, of which the members' and the first values' are made.
        - `data`: the data of the run, which all members share.
        """
        key, values_key = split(key)
        keys = split(values_key, len(self.explore))
        values = {
            one.name: one.drawn(key, self.n)
            for one, key in zip(self.explore, keys, strict=True)
        }
        lanes = self.first_lanes(tuple(values.values()), key, data)
        scores = jnp.full(self.n, jnp.nan, jnp.result_type(float))
        return PopulationState(zero_step(), lanes, values, scores)

    @override
    def train_step(
        self, state: LanesState[S], key: Key[Array, "*lanes"], data: Tree = None
    ) -> tuple[PopulationState[S], dict[str, Any]]:
        """Make a step of each member, and every so many steps a selection.

        **Arguments:**

        - `state`: the population before the step.
        - `key`: the keys of the members in this step.
        - `data`: the data of this step, which all members share.
        """
        population = cast(PopulationState[S], state)
        lanes, found = self.step_of_lanes(state, key, data)
        metrics: Any = found
        scores = jax.vmap(lambda one: metric_of(one, self.objective[0]))(metrics)
        after = with_fields(population, lanes=lanes, scores=scores)
        chosen = fold_in(key.reshape(-1)[0], 2**31)
        own = jnp.arange(self.n)
        after, source = jax.lax.cond(
            (state.step + 1) % self.every == 0,
            lambda: self._selected(after, chosen),
            lambda: (after, own),
        )
        more = {"explored": population.values, "source": source}
        return after, {**metrics, **more}

    def _selected(
        self, state: PopulationState[S], key: PRNGKeyArray
    ) -> tuple[PopulationState[S], Int[Array, " lanes"]]:
        """Return the population after a selection, and whom each became a copy of."""
        count = max(1, math.floor(self.share * self.n))
        sign = 1.0 if self.objective[1] == "min" else -1.0
        order = jnp.argsort(sign * state.scores)  # NaN, which is worst, comes last
        best, worst = order[:count], order[-count:]
        copy_key, factor_key = split(key)
        picked = best[jr.randint(quick(copy_key), (count,), 0, count)]
        cost = sign * state.scores
        gains = jnp.isfinite(cost[picked]) & ~(cost[picked] >= cost[worst])
        source = jnp.arange(self.n).at[worst].set(jnp.where(gains, picked, worst))
        copied: Bool[Array, " lanes"] = source != jnp.arange(self.n)
        lanes = lane_of(state.lanes, source)
        keys = split(factor_key, len(self.explore))
        values = dict[str, Array]()
        for one, key in zip(self.explore, keys, strict=True):
            before = state.values[one.name][source]
            factor = self.factors[jr.randint(quick(key), (self.n,), 0, 2)]
            moved = jnp.clip(before * factor.astype(before.dtype), one.low, one.high)
            values[one.name] = jnp.where(copied, moved, before)
        scores = state.scores[source]
        return with_fields(state, lanes=lanes, values=values, scores=scores), source

    @override
    def log_row(self, state: LanesState[S], metrics: Any) -> dict[str, Array]:
        """Return the members' numbers to log, with the values that they explore."""
        row = super().log_row(state, metrics)
        values: dict[str, Array] = metrics["explored"]
        named = {f"explored.{name}": value for name, value in values.items()}
        return {**row, **named, "source": metrics["source"]}

    @override
    def params(self, state: LanesState[S]) -> P:
        """Return the parameters of the member with the best last score."""
        return self._of_best(state, lambda trainer, lane: trainer.params(lane))

    @override
    def best_params(self, state: LanesState[S]) -> P:
        """Return the best parameters of the member with the best last score."""
        return self._of_best(state, lambda trainer, lane: trainer.best_params(lane))

    def _of_best(self, state: LanesState[S], function: Callable[..., Any]) -> Any:
        sign = 1.0 if self.objective[1] == "min" else -1.0
        scores = sign * cast(PopulationState[S], state).scores
        best = jnp.argmin(jnp.where(jnp.isnan(scores), jnp.inf, scores))
        values = tuple(one[best] for one in self.values_of(state))
        return function(self.trainer_with(values), lane_of(state.lanes, best))
