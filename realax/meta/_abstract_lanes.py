"""The base of trainers that run one trainer many times side by side."""

import abc
import operator
from collections.abc import Callable
from typing import Any, Literal, SupportsIndex, override

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from .._arguments import arguments
from .._keys import fold_in
from .._trees import with_fields
from .._types import PRNGKeyArray, Step, Tree
from ..tasks import AbstractTask
from ..tasks._function import as_task
from ..training import AbstractState, AbstractTrainer
from ..training._devices import device_mesh, devices_of
from ._each_lane import MeanOfLanes
from ._lanes import (
    LanesState,
    a_lane,
    each_of,
    lane_of,
    lanes_state,
    over_lanes,
    placed_lanes,
)
from ._places import put


# `(trainer) -> array`.
type Finder = Callable[[Any], Any]


class AbstractLanes[S: AbstractState, M, P](AbstractTrainer[LanesState[S], Any, P]):
    """Runs a trainer many times side by side, in lanes that exchange nothing.

    A subclass says in which numbers the lanes differ. The keys of lane `i` are
    `fold_in(key, seeds[i])` of those of the run.
    """

    trainer: eqx.AbstractVar[AbstractTrainer[S, M, Any]]
    n: eqx.AbstractVar[int]
    n_devices: eqx.AbstractVar[int]
    seeds: eqx.AbstractVar[Int[Array, " lanes"]]

    @property
    @abc.abstractmethod
    def places(self) -> tuple[Finder, ...]:
        """The places of the numbers in which the lanes differ."""

    @abc.abstractmethod
    def values_of(self, state: LanesState[S]) -> tuple[Array, ...]:
        """Return the lanes' values of each of these numbers.

        **Arguments:**

        - `state`: the state of the lanes.
        """

    @property
    def objective(self) -> tuple[str, Literal["min", "max"]]:
        """The objective of a lane."""
        return self.trainer.objective

    @property
    def evaluation_task(self) -> AbstractTask[Any] | None:
        """The mean over the lanes of the value by which `trainer` is evaluated."""
        task = self.trainer.evaluation_task
        return None if task is None else MeanOfLanes(as_task(task, "evaluation_task"))

    @property
    def xla_options(self) -> dict[str, Any]:
        """Those of `trainer`."""
        return self.trainer.xla_options

    @arguments(state=lanes_state, lane=a_lane)
    def lane(self, state: LanesState[S], lane: SupportsIndex) -> S:
        """Return the state of a lane.

        **Arguments:**

        - `state`: the state of all lanes.
        - `lane`: the number of the lane, from 0.

        **Raises:** `IndexError` if there is no such lane.
        """
        return lane_of(state.lanes, self.number_of(lane))

    def first_lanes(
        self, values: tuple[Array, ...], key: PRNGKeyArray, data: Tree
    ) -> S:
        """Return the states of all lanes before their first step, stacked."""

        def one(lane: Any) -> S:
            values, key = lane
            return self.trainer_with(values).initialize(key, data)

        return each_of(one, (values, self._keys(key)))

    @override
    def run_key(self, key: PRNGKeyArray) -> Key[Array, "*lanes"]:
        """Return the keys of the lanes' runs."""
        return jax.vmap(self.trainer.run_key)(self._keys(key))

    @override
    def step_key(
        self, key: Key[Array, "*lanes"], state: LanesState[S]
    ) -> Key[Array, "*lanes"]:
        """Return the keys of a step, one for each lane, by the lane's own steps.

        **Arguments:**

        - `key`: the keys of the lanes' runs.
        - `state`: the state before the step.
        """
        return jax.vmap(self.trainer.step_key)(key, state.lanes)

    @override
    def evaluation_of(self, task: Any) -> Any:
        """Return the mean over the lanes of a task's value."""
        return MeanOfLanes(as_task(self.trainer.evaluation_of(task), "task"))

    def step_of_lanes(
        self, state: LanesState[S], keys: Key[Array, "*lanes"], data: Tree
    ) -> tuple[S, M]:
        """Make a step of each lane.

        **Returns:** The states of the lanes and their metrics, stacked.
        """

        def one(values: Any, lane: Any, key: PRNGKeyArray, shared: Any) -> Any:
            trainer, data = shared
            trainer = with_values(trainer, self.places, values)
            after, metrics = trainer.train_step(lane, key, data)
            return with_fields(after, step=lane.step + 1), metrics

        split, shared = (self.values_of(state), state.lanes, keys), (self._base, data)
        return over_lanes(one, split, shared, self.n_devices)

    @override
    def log_row(self, state: LanesState[S], metrics: Any) -> dict[str, Array]:
        """Return the numbers to log of a step, each with an axis of lanes."""

        def one(values: Any, lane: Any, metrics: M) -> dict[str, Array]:
            return self.trainer_with(values).log_row(lane, metrics)

        return jax.vmap(one)(self.values_of(state), state.lanes, metrics)

    @override
    def each_lane(
        self, function: Callable[[Any, Any], Any], state: LanesState[S], metrics: Any
    ) -> Any:
        """Return `function(state, metrics)` of each lane, stacked."""
        return eqx.filter_vmap(function)(state.lanes, metrics)

    @override
    def warning(self, state: LanesState[S]) -> str | None:
        """Return the warning of `trainer`, if a lane has reason for one."""
        text = self.trainer.warning(state.lanes)
        return None if text is None else f"in some lane, {text}"

    @override
    def check_new(self, state: LanesState[S]) -> None:
        """Refuse lanes from which no run can start."""
        self.trainer.check_new(state.lanes)

    @override
    def placed(self, tree: Tree) -> Tree:
        """Return `tree` with the lanes divided over the devices, the rest on all."""
        if self.n_devices == 1:
            return self.trainer.placed(tree)
        return placed_lanes(tree, self.n_devices)

    def trainer_with(self, values: tuple[Array, ...]) -> AbstractTrainer[S, M, Any]:
        """Return the trainer of a lane.

        **Arguments:**

        - `values`: the lane's values of the numbers in which lanes differ.
        """
        return with_values(self._base, self.places, values)

    def of_lanes(self, function: Callable[..., Any], state: LanesState[S]) -> Any:
        """Return `function(trainer, state)` of each lane, stacked."""

        def one(values: Any, lane: S) -> Any:
            return function(self.trainer_with(values), lane)

        return eqx.filter_vmap(one)(self.values_of(state), state.lanes)

    def number_of(self, lane: Any) -> int:
        """Return the number of a lane as an `int`.

        **Raises:** `IndexError` if there is no such lane.
        """
        number = operator.index(lane)
        if not 0 <= number < self.n:
            raise IndexError(
                f"`lane` must be from 0 to {self.n - 1}, but got {number}."
            )
        return number

    @property
    def _base(self) -> AbstractTrainer[S, M, Any]:
        return with_fields(self.trainer, train_steps=self.train_steps)

    def _keys(self, key: PRNGKeyArray) -> Key[Array, " lanes"]:
        return jax.vmap(fold_in, (None, 0))(key, self.seeds)


def check_devices(name: str, n: int, n_devices: int, trainer: Any) -> None:
    """Refuse lanes that cannot be divided over devices.

    **Arguments:**

    - `name`: that of the outer trainer, for messages.
    - `n`: the number of lanes.
    - `n_devices`: the number of devices.
    - `trainer`: the trainer of a lane.

    **Raises:** `ValueError` with numbers that would do.
    """
    inside = devices_of(trainer) or 1
    if n_devices > 1 and inside > 1:
        raise ValueError(
            f"`n_devices` of `{name}` and that of its `trainer` cannot both be more "
            f"than 1, but got {n_devices} and {inside}. Divide the "
            "lanes, and let each of them run on one device."
        )
    if n % n_devices:
        fewer, more = n - n % n_devices, n + -n % n_devices
        raise ValueError(
            f"`n_devices` of `{name}` must divide the number of lanes, {n}, but got "
            f"{n_devices}. Use {f'{fewer} or ' if fewer else ''}{more} lanes, or "
            "another number of devices."
        )
    device_mesh(n_devices)


def with_values(trainer: Any, places: tuple[Finder, ...], values: Any) -> Any:
    """Return a trainer with other values at some places."""
    for place, value in zip(places, values, strict=True):
        trainer = put(trainer, place, value)
    return trainer


def zero_step() -> Step:
    """Return the number of steps of a new state."""
    return jnp.zeros((), jnp.int32)
