"""Checks that a state belongs to its trainer."""

from typing import Any

import equinox as eqx
import jax

from .._trees import with_fields


_SHOWN = 4


def check_state(state: Any, expected: Any, trainer: Any) -> None:
    """Refuse a state that differs in its arrays from those that `initialize` returns.

    **Raises:** `TypeError` for a state of another class, `ValueError` that lists the
    arrays that differ.
    """
    name = type(trainer).__name__
    if type(state) is not type(expected):
        raise TypeError(
            f"`state` must be a {type(expected).__name__} from `initialize` of this "
            f"{name}, but got a {type(state).__name__}. It belongs to another "
            "kind of trainer."
        )
    if wrong := _differences(state, expected):
        raise ValueError(
            f"`state` must match the result of `initialize` of this {name}, but got "
            f"one in which {wrong}. It belongs to a trainer with other settings; begin "
            "with `trainer.initialize(key, data)`."
        )


def check_step(after: Any, before: Any, trainer: Any) -> None:
    """Refuse a `train_step` that returns another type of state than it was given.

    **Raises:** `TypeError` that lists the arrays that differ.
    """
    name = f"`{type(trainer).__name__}.train_step`"
    if type(after) is not type(before):
        raise TypeError(
            f"{name} must return `(state, metrics)` with a {type(before).__name__}, "
            f"but got a {type(after).__name__} in place of the state."
        )
    if wrong := _differences(after, before):
        raise TypeError(
            f"{name} must return a state with the same arrays as the one it was "
            f"given, but got one in which {wrong}."
        )


def _differences(state: Any, expected: Any) -> str:
    found, wanted = _arrays(state), _arrays(expected)
    wrong = list[str]()
    for path in sorted({*found, *wanted}):
        if path not in found:
            wrong.append(f"`{path}` is missing ({wanted[path]})")
        elif path not in wanted:
            wrong.append(f"`{path}` ({found[path]}) is unexpected")
        elif found[path] != wanted[path]:
            wrong.append(f"`{path}` is {found[path]} instead of {wanted[path]}")
    more = len(wrong) - _SHOWN
    return ", ".join(wrong[:_SHOWN]) + (f", and {more} more differ" if more > 0 else "")


def _arrays(state: Any) -> dict[str, str]:
    # The counters of early stopping belong to the run; a new state has none.
    leaves = jax.tree_util.tree_leaves_with_path(with_fields(state, stopping=()))
    return {
        f"state{jax.tree_util.keystr(path)}": f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
        if eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)
    }
