"""The schedule of epsilon-greedy exploration."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._arguments import Check, number


EPSILON_CHECKS: dict[str, Check] = {
    "epsilon_start": number(0.0, most=1.0),
    "epsilon_end": number(0.0, most=1.0),
    "epsilon_steps": number(above=0.0),
}


def epsilon_after(learner: Any, step: Any) -> Float[Array, ""]:
    """Return the probability of a random action, which falls linearly.

    **Arguments:**

    - `learner`: the trainer, with `epsilon_start`, `epsilon_end` and `epsilon_steps`.
    - `step`: how many steps the trainer has made.
    """
    played = step * learner.num_envs * learner.num_steps
    share = jnp.minimum(played / learner.epsilon_steps, 1.0)
    return learner.epsilon_start + share * (learner.epsilon_end - learner.epsilon_start)
