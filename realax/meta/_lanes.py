"""Runs side by side in one program: their state, and the map over them."""

import operator
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from .._anywhere import LANES
from .._errors import describe
from .._trees import with_fields
from .._types import Step, Tree
from ..training._devices import divided, put_divided, put_on_every_device
from ..training._state import AbstractState


class LanesState[S](AbstractState):
    """The state of runs side by side, each of which is a lane.

    - `step`: the number of steps so far of the lanes that still go on.
    - `lanes`: the states of the lanes; each array has a leading axis of lanes. The
        `step` of a lane that has ended is the one at which it did.
    """

    step: Step
    lanes: S

    @property
    def steps(self) -> Int[Array, "*lanes"]:
        """The number of steps of each lane."""
        lanes: Any = self.lanes
        return lanes.step

    @property
    def reusable(self) -> Tree:
        """The arrays of the lanes whose memory a run may write over."""
        lanes: Any = self.lanes
        return lanes.reusable


def lanes_state(phrase: str, value: Any) -> Any:
    """Check that a value is a state of lanes."""
    if not isinstance(value, LanesState):
        raise TypeError(
            f"{phrase} must be a state of all lanes, as the trainer's `initialize` and "
            f"`train` return it, but got {type(value).__name__}."
        )
    return value


def a_lane(phrase: str, value: Any) -> Any:
    """Check that a value is a whole number."""
    try:
        return operator.index(value)
    except TypeError as error:
        raise TypeError(
            f"{phrase} must be the number of a lane, from 0, but got {describe(value)}."
        ) from error


def over_lanes(
    function: Callable[..., Any], split: Tree, shared: Tree, n_devices: int
) -> Any:
    """Return `function(*lane, shared)` of each lane, stacked.

    Devices compute their lanes without any exchange. What enters and leaves is divided
    over them, and so the lanes of a run stay where they are.

    **Arguments:**

    - `function`: returns a tree of arrays.
    - `split`: a tuple of trees of arrays with a leading axis of lanes.
    - `shared`: a tree for all lanes.
    - `n_devices`: the number of devices, a divisor of the number of lanes.
    """

    def mapped(split: Any, shared: Any) -> Any:
        return each_of(lambda lane: function(*lane, shared), split)

    return divided(mapped, split, shared, n_devices, gather=False)


def each_of(function: Callable[[Any], Any], split: Tree) -> Any:
    """Return `function(lane)` of each lane, stacked.

    One lane alone is not mapped: `vmap` computes both branches of every condition.
    """
    if len(jax.tree.leaves(split)[0]) > 1:
        return jax.vmap(function, axis_name=LANES)(split)
    return jax.tree.map(lambda x: jnp.asarray(x)[None], function(lane_of(split, 0)))


def placed_lanes(tree: Tree, n_devices: int) -> Tree:
    """Return `tree` with the lanes of states divided over devices, and the rest on all.

    **Arguments:**

    - `tree`: anything that enters a run.
    - `n_devices`: the number of devices.
    """

    def place(node: Any) -> Any:
        if not isinstance(node, LanesState):
            return put_on_every_device(node, n_devices)
        rest = put_on_every_device(with_fields(node, lanes=None), n_devices)
        return with_fields(rest, lanes=put_divided(node.lanes, n_devices))

    return jax.tree.map(place, tree, is_leaf=lambda x: isinstance(x, LanesState))


def frozen(over: Bool[Array, " lanes"], before: Tree, after: Tree) -> Tree:
    """Return `before` in lanes that are over, and `after` in the others."""

    def choose(old: Any, new: Any) -> Any:
        return jnp.where(over.reshape(-1, *[1] * (jnp.ndim(new) - 1)), old, new)

    return jax.tree.map(choose, before, after)


def lane_of(lanes: Tree, lane: Any) -> Any:
    """Return the part of one lane."""
    return jax.tree.map(lambda x: x[lane] if eqx.is_array(x) else x, lanes)


class RecordOfLanes(eqx.Module):
    """Records of each lane what a trainer records of its state.

    - `record`: the trainer's function.
    """

    record: Callable[[Any], Tree]

    def __call__(self, state: LanesState[Any]) -> Tree:
        """Return the records of the lanes, stacked."""
        return eqx.filter_vmap(self.record)(state.lanes)
