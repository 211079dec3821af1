"""Where a run stands, and what is written down of a step."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool

from .._types import Tree
from ..tasks._base import check_arrays
from .observers import Selection
from .stopping import Rules, is_over


class Carry(eqx.Module):
    """Where a run stands.

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
    """What is written down of a step.

    - `kept`: for the `Record`; `None` where nothing is kept.
    - `selected`: for each observer.
    """

    kept: Tree
    selected: tuple[Tree, ...]


class Selected(eqx.Module):
    """What an observer selects of each step.

    - `observer`: its name, for messages.
    - `selection`: what its `select` returned.
    """

    observer: str = eqx.field(static=True)
    selection: Selection | None

    def __call__(self, state: Any, metrics: Any) -> Tree:
        """Return what is selected.

        **Raises:** `TypeError` for what cannot be stacked over steps.
        """
        if self.selection is None:
            return None
        found = self.selection(state, metrics)
        check_arrays(found, f"what `{self.observer}.select` computes")
        return found
