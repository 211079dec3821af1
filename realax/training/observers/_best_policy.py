"""The best policy that an evaluator has met, and its file."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from ..._errors import warn_user
from ..._storage._files import CorruptFileError, read
from ..._storage._fingerprint import differences
from ..._types import Tree
from ._params import store_params


@dataclasses.dataclass(frozen=True)
class BestPolicy:
    """A policy with its score.

    - `params`: the policy.
    - `value`: the mean of its returns.
    - `step`: the step after which it was evaluated.
    """

    params: Any
    value: float
    step: int

    def write(self, path: pathlib.Path, evaluation: Mapping[str, str]) -> None:
        """Write it to a file that `load_params` can read.

        **Arguments:**

        - `evaluation`: the fingerprint of what gave the score.
        """
        best = {"value": self.value, "step": self.step, "evaluation": dict(evaluation)}
        store_params(path, self.params, "file", best=best)


def read_best(
    path: pathlib.Path, like: Tree, evaluation: Mapping[str, str]
) -> BestPolicy | None:
    """Return the policy in a file, or `None` if there is none.

    A damaged file is reported, and counts as none.

    **Arguments:**

    - `like`: a tree of the policy's type, with shapes in the place of arrays.
    - `evaluation`: the fingerprint of the evaluation that goes on.

    **Raises:** `ValueError` for a score of another evaluation, `MisfitError` for a
    policy of another type.
    """
    if not path.is_file():
        return None
    try:
        stored = read(path)
    except CorruptFileError as error:
        warn_user(f"{error} The best policy is chosen among the coming ones.")
        return None
    best: dict[str, Any] = stored.meta.get("best", {})
    if wrong := differences(best.get("evaluation", {}), evaluation):
        raise ValueError(
            f"`file` of `Evaluator` must hold the best policy of this run so far, but "
            f"the scores in {path} are of another evaluation: {'; '.join(wrong[:5])}. "
            "Choose another file, or remove this one to begin anew."
        )
    return BestPolicy(stored.fill("params", like), best["value"], best["step"])
