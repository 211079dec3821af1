"""Early stopping of runs side by side, each by its own metrics."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ..training.stopping import (
    AbstractCounters,
    AbstractStopping,
    Counters,
    Rules,
    is_over,
    with_counters,
)
from ._lanes import frozen


class LaneCounters(AbstractCounters):
    """The counters of all lanes.

    - `each`: counters of which every array has a leading axis of lanes.
    """

    each: Counters

    @property
    def label(self) -> str:
        """The labels of the counters of a lane."""
        return "lanes: " + ", ".join(one.label for one in self.each)


class EachLane(AbstractStopping[LaneCounters]):
    """Ends each lane by its own metrics, and the run when all lanes have ended.

    - `rules`: the rules of a lane.
    - `n`: the number of lanes.
    """

    rules: Rules
    n: int = eqx.field(static=True)

    def initial(self, objective: tuple[str, str]) -> LaneCounters:
        """Return the counters before the first step."""
        one = with_counters((), self.rules, objective)
        each = jax.tree.map(lambda x: jnp.broadcast_to(x, (self.n, *x.shape)), one)
        return LaneCounters(each)

    def update(self, counters: LaneCounters, metrics: Any) -> LaneCounters:
        """Return the counters after a step, the same ones for lanes that are over."""

        def one(counters: Counters, metrics: Any) -> Counters:
            pairs = zip(self.rules, counters, strict=True)
            return tuple(rule.update(counter, metrics) for rule, counter in pairs)

        after = jax.vmap(one)(counters.each, metrics)
        return LaneCounters(frozen(self.lanes_over(counters), counters.each, after))

    def over(self, counters: LaneCounters) -> Bool[Array, ""]:
        """Return whether all lanes are over."""
        return jnp.all(self.lanes_over(counters))

    def lanes_over(self, counters: LaneCounters) -> Bool[Array, " lanes"]:
        """Return which lanes are over."""
        return jax.vmap(lambda each: is_over(self.rules, each))(counters.each)
