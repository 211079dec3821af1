"""The action spaces of environments, as learners of returns need them."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from ...policies import Bounds, CategoricalHead
from ...tasks import EnvTask


# From here on, a bound of a float space stands for none.
_FARTHEST = np.finfo(np.float32).max / 2


def choice_of(env: EnvTask[Any], learner: str) -> CategoricalHead:
    """Return the head of an environment whose action is one discrete choice.

    **Raises:** `ValueError` for other actions.
    """
    if not env.action_layout.discrete:
        raise ValueError(
            f"`{learner}` chooses one of several actions, but those of "
            f"{env.display_name} are continuous. Use `SAC`, `TD3` or `PPO`."
        )
    head = env.action_layout.head(0.0)
    if not (isinstance(head, CategoricalHead) and len(head.counts) == 1):
        raise ValueError(
            f"`{learner}` needs actions that are one choice alone, but those of "
            f"{env.display_name} are several, or a tree. Use `PPO`."
        )
    return head


def bounds_of(env: EnvTask[Any], learner: str) -> Bounds:
    """Return the bounds of each component of an environment's continuous actions.

    **Raises:** `ValueError` for choices, and for bounds that are infinite or not known.
    """
    if env.action_layout.chooses:
        raise ValueError(
            f"`{learner}` needs continuous actions, but those of {env.display_name} "
            "are choices. Use `DQN`, `PQN`, `SAC` or `PPO`."
        )
    low, high = _bounds(env)
    if low is None or high is None or not np.all(np.isfinite([low, high])):
        raise ValueError(
            f"`{learner}` needs actions between finite bounds that are known before "
            f"compiling, but those of {env.display_name} are not. Use `PPO`, or wrap "
            "the environment in one with bounds."
        )
    return Bounds(tuple(low.tolist()), tuple(high.tolist()))


def score_bounds(actions: int) -> Bounds:
    """Return the bounds of random scores, of which each may be the largest."""
    return Bounds((0.0,) * actions, (1.0,) * actions)


def _bounds(env: EnvTask[Any]) -> tuple[Any, Any]:
    from envelope import PyTreeSpace, Space

    space: Any = env.environment().action_space
    tree = space.tree if isinstance(space, PyTreeSpace) else space
    parts: Any = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, Space))
    found = list[Any]()
    for name in ("low", "high"):
        bounds = [getattr(part, name) for part in parts]
        if any(isinstance(bound, Tracer) for bound in bounds):
            return None, None
        flat = [
            np.broadcast_to(np.asarray(bound, np.float64), part.shape).ravel()
            for bound, part in zip(bounds, parts, strict=True)
        ]
        one = np.concatenate(flat)
        found.append(np.where(np.abs(one) < _FARTHEST, one, np.inf))
    return found[0], found[1]
