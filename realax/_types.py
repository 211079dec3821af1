"""Type aliases that the whole library shares."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Float, Int


if TYPE_CHECKING:
    from jaxtyping import PRNGKeyArray

    type Tree = Any
else:
    from jaxtyping import Key, PyTree as Tree, UInt32

    # Any key passes at run time, because `check_key` gives the clearer errors.
    PRNGKeyArray = Key[Array, "..."] | UInt32[Array, "..."]

type Scalar = Float[Array, ""]
type Step = Int[Array, ""]

# (params, key, data) -> (fitness or loss, aux)
type TaskFn = Callable[[Any, PRNGKeyArray, Any], tuple[Any, Any]]

# Metadata of fields that decide how a run is executed and not what it computes. A
# checkpoint with other values of such fields resumes, with a warning.
EXECUTION = {"execution": True}

__all__ = ["EXECUTION", "PRNGKeyArray", "Scalar", "Step", "TaskFn", "Tree"]
