"""The carry of the loop, and the row of a step."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool

from .._types import Tree
from ..tasks._base import check_arrays
from .observers import Selection
from .stopping import Rules, is_over


class Carry(eqx.Module):
    """The carry of the loop.

    - `state`: the trainer's state.
    - `over`: whether a rule has ended the run.
    """

    state: Any
    over: Bool[Array, ""]

    @classmethod
    def of(cls, state: Any, rules: Rules) -> "Carry":
        """Return the carry of a state."""
        return cls(state, is_over(rules, state.stopping))


class Row(eqx.Module):
    """The values that are stored of a step.

    - `kept`: those for the `Record`; `None` if nothing is kept.
    - `selected`: those for each observer.
    """

    kept: Tree
    selected: tuple[Tree, ...]


class Selected(eqx.Module):
    """The selection of an observer, with checks of its result.

    - `observer`: the name of the observer, for messages.
    - `selection`: the function that its `select` returned.
    """

    observer: str = eqx.field(static=True)
    selection: Selection | None

    def __call__(self, state: Any, metrics: Any) -> Tree:
        """Return the values that are selected of a step.

        **Raises:** `TypeError` for values that cannot be stacked over steps.
        """
        if self.selection is None:
            return None
        values = self.selection(state, metrics)
        check_arrays(values, f"what `{self.observer}.select` computes")
        return values
