"""The options that all environment tasks share."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, SupportsIndex, TypedDict

from .._arguments import Check, flag, function, keywords, optional, whole
from .._frozen import Frozen, freeze
from .._types import Tree
from ._descriptor import AbstractDescriptor, a_descriptor
from ._rollout import Trajectory


class EnvOptions(TypedDict, total=False):
    """Keywords of every environment task.

    - `env_kwargs`: arguments of the environment's constructor, if `env` is a name.
    - `lanes`: the number of episodes that a population plays in parallel; when one
        ends, its lane takes the next. `None`, the default, chooses a number, and 0
        plays all episodes at once.
    - `chunk`: the largest number of steps after which free lanes take new episodes. By
        default, `None`, they do so as soon as a quarter of the lanes is free.
    - `normalize_obs`: whether evolution keeps the running mean and variance of all
        observations in its state, and policies get observations that are normalised by
        them. The trained policy is then a `NormalizedPolicy`, which holds the
        statistics. False by default.
    - `descriptor`: says in a few numbers what a policy does in an episode, for quality
        diversity: `rx.MeanOf(function)`, `rx.LastOf(function)`, or one of your own. It
        is in the aux as `"descriptor"`. `None`, the default, for none.
    - `flatten_obs`: whether policies get each observation as one float vector, with
        discrete parts as one-hot. If False, they get the environment's own observation,
        such as an array of pixels or a dictionary, which `task.obs_shape` describes.
        True by default.
    """

    env_kwargs: Mapping[str, Any] | None
    lanes: SupportsIndex | None
    chunk: SupportsIndex | None
    normalize_obs: bool
    flatten_obs: bool
    descriptor: AbstractDescriptor | None


class MakeOptions(EnvOptions, total=False):
    """Keywords of `make`, which it passes to the task's class.

    - `max_steps`, `model_factory`, `data_fn`: as for every environment task.
    - `env_params`: as for `GymnaxTask`.
    - `backend`: as for `BraxTask`, and as for `GymnasiumTask`.
    - `workers`, `timeout`, `retries`, `errors`, `fresh`: as for `GymnasiumTask`.
    """

    max_steps: SupportsIndex | None
    model_factory: Callable[[Any], Any]
    data_fn: Callable[[Trajectory], Tree] | None
    env_params: Tree
    backend: str | None
    workers: SupportsIndex
    timeout: float | None
    retries: SupportsIndex
    errors: Literal["raise", "nan"]
    fresh: bool


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
    "descriptor": optional(a_descriptor),
}


def constructor_kwargs(env: Any, options: EnvOptions) -> Frozen:
    """Return the `env_kwargs` of the options, frozen.

    **Raises:** `ValueError` if there are some although `env` is an instance.
    """
    env_kwargs = options.get("env_kwargs")
    if not isinstance(env, str) and env_kwargs:
        raise ValueError(
            "`env_kwargs` are for an environment given by name, but got an instance of "
            f"{type(env).__name__}. Pass them to its constructor instead."
        )
    return freeze(env_kwargs)
