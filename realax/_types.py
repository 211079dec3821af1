"""Aliases that the whole library shares."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Float, Int, PRNGKeyArray


if TYPE_CHECKING:
    type Tree = Any
else:
    from jaxtyping import PyTree as Tree

type Scalar = Float[Array, ""]
type Step = Int[Array, ""]

# (params, key, data) -> (fitness or loss, aux)
type TaskFn = Callable[[Any, PRNGKeyArray, Any], tuple[Any, Any]]

__all__ = ["PRNGKeyArray", "Scalar", "Step", "TaskFn", "Tree"]
