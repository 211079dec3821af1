"""The options that all environment tasks share."""

from collections.abc import Callable, Mapping
from typing import Any, SupportsIndex, TypedDict

from .._arguments import Check, flag, function, keywords, optional, whole
from .._frozen import Frozen, freeze
from .._types import Tree
from ._rollout import Trajectory


class EnvOptions(TypedDict, total=False):
    """Keywords of every environment task.

    - `env_kwargs`: arguments for the environment's constructor, where `env` is a name.
    - `lanes`: how many episodes a population plays side by side, a lane taking the next
        one when its own is over; `None` chooses, 0 plays all at once.
    - `chunk`: after how many steps at most free lanes take new episodes; `None`: as
        soon as a quarter of them is free.
    - `normalize_obs`: whether evolution keeps a running mean and variance of all live
        observations in its state, and policies see observations normalised by them. The
        policy that comes back is a `NormalizedPolicy`, with them frozen into it. False
        by default.
    - `flatten_obs`: whether policies get each observation as one float vector, discrete
        parts as one-hot. With False they get the environment's own, such as an array of
        pixels or a dictionary; `task.obs_shape` describes it. True by default.
    """

    env_kwargs: Mapping[str, Any] | None
    lanes: SupportsIndex | None
    chunk: SupportsIndex | None
    normalize_obs: bool
    flatten_obs: bool


class MakeOptions(EnvOptions, total=False):
    """Keywords of `make`: those of the task's class, whichever it is.

    - `max_steps`, `model_factory`, `data_fn`: as for every environment task.
    - `env_params`: as for `GymnaxTask`.
    - `backend`: as for `BraxTask`.
    """

    max_steps: SupportsIndex | None
    model_factory: Callable[[Any], Any]
    data_fn: Callable[[Trajectory], Tree] | None
    env_params: Tree
    backend: str | None


# Checks of the arguments that every environment task takes.
ENV_CHECKS: Mapping[str, Check] = {
    "max_steps": optional(whole()),
    "model_factory": function("(params) -> policy"),
    "data_fn": optional(function("(trajectory) -> aux")),
    "env_kwargs": keywords,
    "lanes": optional(whole(0)),
    "chunk": optional(whole()),
    "normalize_obs": flag,
    "flatten_obs": flag,
}


def constructor_kwargs(env: Any, options: EnvOptions) -> Frozen:
    """The `env_kwargs` among some options.

    **Raises:** `ValueError` where there are some for an instance.
    """
    env_kwargs = options.get("env_kwargs")
    if not isinstance(env, str) and env_kwargs:
        raise ValueError(
            "`env_kwargs` are for an environment given by name, but got an instance of "
            f"{type(env).__name__}. Pass them to its constructor instead."
        )
    return freeze(env_kwargs)
