"""Checks of gymnasium's environments, before and beside their evaluation."""

import contextlib
from collections.abc import Callable
from typing import Any, SupportsIndex, cast

import jax
import numpy as np

from .._errors import describe
from ._gymnasium_adapter import envelope_space, from_gymnasium, one_number
from ._spaces import Layouts, layout_of


def an_env(phrase: str, value: Any) -> Any:
    """Check a name, or a function that makes an environment."""
    if isinstance(value, str):
        return value
    if hasattr(value, "reset") and hasattr(value, "step") and not callable(value):
        raise TypeError(
            f"{phrase} must be a name or a function that makes an environment, but got "
            f"one instance, {describe(value)}. A task plays many side by side: pass "
            f"`lambda: {type(value).__name__}(...)`."
        )
    if not callable(value):
        raise TypeError(
            f"{phrase} must be a name or a function that makes an environment, but got "
            f"{describe(value)}."
        )
    return value


def layouts_of(env: Any, name: str) -> Layouts:
    """Return the layouts of an environment's observations and actions."""
    return Layouts(
        layout_of(envelope_space(env.observation_space, name)),
        layout_of(envelope_space(env.action_space, name)),
    )


def horizon(env: Any, max_steps: SupportsIndex | None, name: str) -> int:
    """Return the longest episode, in steps.

    **Raises:** `ValueError` if neither the user nor the environment limits it.
    """
    own = getattr(env.spec, "max_episode_steps", None)
    if max_steps is not None:
        return cast(int, max_steps)
    if own is None:
        raise ValueError(
            f"{name} has no limit of steps, and an episode might never end. Pass "
            "`max_steps`."
        )
    return int(own)


def check_step(env: Any, name: str) -> None:
    """Make one step, to refuse environments that do not fit before workers start.

    **Raises:** `TypeError` for rewards of several agents, `ValueError` for observations
    of another shape than their space.
    """
    shown = from_gymnasium(env.observation_space)
    shown(env.reset(seed=0)[0])
    env.action_space.seed(0)
    obs, reward, *_ = env.step(env.action_space.sample())
    one_number(reward, name)
    shown(obs)


def not_repeated(build: Callable[[], Any], episodes: int, most: int) -> list[int]:
    """Return the seeds whose episodes differ in an environment that is used again.

    **Arguments:**

    - `build`: makes a new environment.
    - `episodes`: the number of seeds, from 0.
    - `most`: the longest episode, in steps.
    """
    differing = list[int]()
    with contextlib.closing(build()) as used:
        for seed in range(episodes):
            with contextlib.closing(build()) as new:
                first, again = _played(new, seed, most), _played(used, seed, most)
            if not _same(first, again):
                differing.append(seed)
    return differing


def _played(env: Any, seed: int, most: int) -> list[Any]:
    """Return what an episode shows, with actions drawn by the seed."""
    shown = from_gymnasium(env.observation_space)
    steps = [shown(env.reset(seed=seed)[0])]
    env.action_space.seed(seed)
    for _ in range(most):
        obs, reward, *ends, _ = env.step(env.action_space.sample())
        steps.append((shown(obs), float(reward), *map(bool, ends)))
        if any(ends):
            break
    return steps


def _same(one: list[Any], other: list[Any]) -> bool:
    """Return whether two episodes are equal, bit for bit."""
    if jax.tree.structure(one) != jax.tree.structure(other):
        return False
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
