"""Conditions that runs side by side share: what none of them needs is not computed."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool


# The axis of runs side by side.
LANES = "realax lanes"


def anywhere(condition: Bool[Array, ""]) -> Bool[Array, ""]:
    """Return whether a condition holds in any of the runs side by side.

    Under `vmap`, a `lax.cond` whose condition differs between runs computes both
    branches. With this one it computes what is needed somewhere; each branch has to be
    right for all runs. Without such runs it is the condition itself.
    """
    try:
        return jax.lax.pmax(condition.astype(jnp.int32), LANES) > 0
    except NameError:  # jax's for an axis that is not there
        return condition
