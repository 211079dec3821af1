"""gymnax environments as tasks."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, SupportsIndex, cast, runtime_checkable

import equinox as eqx
import jax
from jax.core import Tracer

from .._arguments import arguments
from .._errors import closest, describe
from .._frozen import Frozen, cached, freeze, identity
from .._trees import strong
from .._types import EXECUTION, Tree
from ._checks import EPISODES, environment, same_shapes
from ._env import Environment, EnvTask, Params, check_kwargs
from ._rollout import Trajectory
from ._spaces import Layout, layout_of


@runtime_checkable
class GymnaxEnv(Protocol):
    """The part of `gymnax.environments.environment.Environment` that is used."""

    @property
    def default_params(self) -> Any:
        """The environment's parameters."""
        ...

    def reset_env(self, key: Any, params: Any) -> Any:
        """`(obs, state)`."""
        ...

    def step_env(self, key: Any, state: Any, action: Any, params: Any) -> Any:
        """`(obs, state, reward, terminated, info)`."""
        ...

    def is_truncated(self, state: Any, params: Any) -> Any:
        """Whether the time limit is reached."""
        ...

    def observation_space(self, params: Any) -> Any:
        """The space of observations."""
        ...

    def action_space(self, params: Any) -> Any:
        """The space of actions."""
        ...


class GymnaxTask(EnvTask[Params]):
    """Episodes on a gymnax environment.

    **Arguments:**

    - `env`: a name such as `"CartPole-v1"`, or an instance of gymnax's `Environment`,
        one's own subclass included. Most of gymnax's stop gradients. By name, those
        that need not do not; an instance says so by `env.with_transition_gradients()`.
    - `max_steps`: the longest episode, in steps; the environment's own horizon if
        `None`.
    - `model_factory`: makes a `BasePolicy` from the parameters; by default they are
        the policy.
    - `data_fn`: what becomes the aux, from an episode's `Trajectory`; only what it
        returns is kept.
    - `env_params`: values for some or all of the environment's parameters, a mapping
        or gymnax's own `EnvParams`. `task.env_params` holds all of them as array
        leaves, to be mapped over or evolved; to be differentiated, where the
        environment does not stop gradients.
    - `env_kwargs`: for the environment's constructor, where `env` is a name.
    - `lanes`: how many episodes a population plays side by side, a lane taking the next
        one when its own is over; `None` chooses, 0 plays all at once.
    - `chunk`: after how many steps at most free lanes take new episodes; `None`: as
        soon as a quarter of them is free.
    - `normalize_obs`: whether evolution keeps a running mean and variance of all live
        observations in its state, and policies see observations normalised by them. The
        policy that comes back is a `NormalizedPolicy`, with them frozen into it.

    **Raises:** `ValueError` for an unknown name, a horizon below 1 or above the
    environment's own.
    """

    env: str | GymnaxEnv = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    model_factory: Callable[[Any], Any]
    data_fn: Callable[[Trajectory], Tree] | None
    lanes: int | None = eqx.field(static=True, metadata=EXECUTION)
    chunk: int | None = eqx.field(static=True, metadata=EXECUTION)
    normalize_obs: bool = eqx.field(static=True)
    env_params: Tree
    env_kwargs: Frozen = eqx.field(static=True)
    obs_layout: Layout = eqx.field(static=True, init=False)
    action_layout: Layout = eqx.field(static=True, init=False)

    @arguments(
        env=environment(
            "a gymnax environment", lambda value: isinstance(value, GymnaxEnv)
        ),
        **EPISODES,
    )
    def __init__(
        self,
        env: str | GymnaxEnv,
        max_steps: SupportsIndex | None = None,
        model_factory: Callable[[Any], Any] = identity,
        data_fn: Callable[[Trajectory], Tree] | None = None,
        *,
        env_params: Tree = None,
        env_kwargs: Mapping[str, Any] | None = None,
        lanes: SupportsIndex | None = None,
        chunk: SupportsIndex | None = None,
        normalize_obs: bool = False,
    ):
        check_kwargs(env, env_kwargs)
        self.env = env
        self.env_kwargs = freeze(env_kwargs)
        suite = _build(env, self.env_kwargs)
        self.env_params = _full_params(env, env_params, suite.default_params)
        self.max_steps = _horizon(env, self.env_params, max_steps)
        self.model_factory = model_factory
        self.data_fn = data_fn
        self.lanes = cast(int | None, lanes)
        self.normalize_obs = normalize_obs
        self.chunk = cast(int | None, chunk)
        self.obs_layout = suite.obs_layout
        self.action_layout = suite.action_layout

    def environment(self) -> Environment:
        """The environment as `jax-envelope` sees it, with this task's parameters."""
        return _build(self.env, self.env_kwargs).environment(self.env_params)

    def _stopped(self) -> str | None:
        stopped = super()._stopped()
        if stopped is None or not getattr(self.env, _SUPPORTS, False):
            return stopped
        return f"{stopped} `env.with_transition_gradients()` is one that does not."


# gymnax's word for environments that stop gradients only as long as they are not asked.
_SUPPORTS = "supports_transition_gradients"


class _Suite(NamedTuple):
    environment: Callable[[Any], Environment]  # from the environment's parameters
    default_params: Any
    obs_layout: Layout
    action_layout: Layout


@cached
def _build(env: str | GymnaxEnv, kws: Frozen) -> _Suite:
    from ._gymnax_env import GymnaxEnvironment  # imports gymnax, which is slow

    # Under jit, what is built here would hold tracers and outlive them in the cache.
    with jax.ensure_compile_time_eval():
        instance: Any = env
        if isinstance(env, str):
            instance = gymnax_make(env, kws.thaw())
            if getattr(instance, _SUPPORTS, False):
                instance = instance.with_transition_gradients()
        params = instance.default_params
        environment = functools.partial(GymnaxEnvironment, instance)
        return _Suite(
            environment,
            params,
            layout_of(environment(params).observation_space),
            layout_of(environment(params).action_space),
        )


def _full_params(env: str | GymnaxEnv, given: Any, defaults: Any) -> Any:
    """The environment's parameters with array leaves, in parts replaced by `given`."""
    known = [field.name for field in dataclasses.fields(defaults)]
    if isinstance(given, Mapping):
        for name in given:
            if name not in known:
                raise ValueError(
                    f"`env_params` of {env!r} have no {name!r}. "
                    f"{closest(str(name), known)}"
                )
        given = dataclasses.replace(defaults, **given)
    if given is not None and not isinstance(given, type(defaults)):
        raise TypeError(
            f"`env_params` of {env!r} must be a mapping or "
            f"{type(defaults).__qualname__}, but got {describe(given)}."
        )
    for name in known if given is not None else ():
        same_shapes(env, name, getattr(given, name), getattr(defaults, name))
    with jax.ensure_compile_time_eval():
        return strong(defaults if given is None else given)


def gymnax_names() -> list[str]:
    """The environments that gymnax has registered. Imports gymnax, which is slow."""
    return list(_gymnax().registered_envs)


def gymnax_make(name: str, kws: Mapping[str, Any]) -> GymnaxEnv:
    """gymnax's environment of that name. **Raises:** `ValueError`: closest matches."""
    if name not in gymnax_names():
        raise ValueError(
            f"gymnax has no environment {name!r}. {closest(name, gymnax_names())}"
        )
    try:
        return _gymnax().make(name, **kws)[0]
    except TypeError as error:  # a keyword that it does not take
        raise ValueError(
            f"gymnax's {name!r} can not be made with `env_kwargs={dict(kws)}`: {error}"
        ) from error


def _gymnax() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its plotting libraries' deprecations
        import gymnax
    return gymnax


def _horizon(env: str | GymnaxEnv, params: Any, max_steps: SupportsIndex | None) -> int:
    own = getattr(params, "max_steps_in_episode", math.inf)
    own = math.inf if isinstance(own, Tracer) else float(own)
    steps = cast(int | None, max_steps)
    if steps is None:
        if not math.isfinite(own):
            raise ValueError(
                f"`max_steps` must be given for {env!r}, because its parameters set no "
                "finite number of steps, or a traced one: `GymnaxTask(env, "
                "max_steps=1000)`."
            )
        steps = int(own)
    if steps > own:
        raise ValueError(
            f"`max_steps` must be at most {int(own)}, where {env!r} ends an episode by "
            f"itself, but got {steps}. For longer episodes pass "
            f"`env_params={{'max_steps_in_episode': {steps}}}`."
        )
    return steps
