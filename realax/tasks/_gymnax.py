"""gymnax environments as tasks."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import (
    Any,
    NamedTuple,
    Protocol,
    SupportsIndex,
    Unpack,
    cast,
    runtime_checkable,
)

import equinox as eqx
import jax
from jax.core import Tracer

from .._arguments import arguments
from .._errors import closest, describe
from .._frozen import Frozen, cached, identity
from .._import_lazily import imported_lazily
from .._trees import strong
from .._types import Tree
from ._checks import environment, same_shapes
from ._env import Environment, EnvTask, Params
from ._options import ENV_CHECKS, EnvOptions, constructor_kwargs
from ._render import Artist
from ._render_gymnax import gymnax_artist
from ._rollout import Trajectory
from ._spaces import Layouts, layouts_of


@runtime_checkable
class GymnaxEnv(Protocol):
    """The part of `gymnax.environments.environment.Environment` that is used."""

    @property
    def default_params(self) -> Any:
        """The environment's parameters."""
        ...

    def reset_env(self, key: Any, params: Any) -> Any:
        """Return `(obs, state)`."""
        ...

    def step_env(self, key: Any, state: Any, action: Any, params: Any) -> Any:
        """Return `(obs, state, reward, terminated, info)`."""
        ...

    def is_truncated(self, state: Any, params: Any) -> Any:
        """Return whether the time limit is reached."""
        ...

    def observation_space(self, params: Any) -> Any:
        """Return the space of observations."""
        ...

    def action_space(self, params: Any) -> Any:
        """Return the space of actions."""
        ...


class GymnaxTask(EnvTask[Params]):
    """The return of a policy's episode on a gymnax environment.

    **Arguments:**

    - `env`: a name such as `"CartPole-v1"`, or an instance of gymnax's `Environment`,
        also of your own subclass. Most of gymnax's environments stop gradients. Those
        that need not do so are made without it by name; as an instance, pass
        `env.with_transition_gradients()`.
    - `max_steps`: the longest episode, in steps; the environment's own horizon if
        `None`.
    - `model_factory`, `data_fn`, `env_kwargs`, `lanes`, `chunk`, `normalize_obs`,
        `flatten_obs`, `descriptor`: as for every `EnvTask`.
    - `env_params`: values for some or all of the environment's parameters: a mapping,
        or gymnax's own `EnvParams`. `task.env_params` holds all of them as array
        leaves, which can be mapped over, evolved, or differentiated if the environment
        does not stop gradients.

    **Raises:** `ValueError` for an unknown name, and for a horizon below 1 or above the
    environment's own.
    """

    env: str | GymnaxEnv = eqx.field(static=True)
    env_params: Tree

    @arguments(
        env=environment(
            "a gymnax environment", lambda value: isinstance(value, GymnaxEnv)
        ),
        **ENV_CHECKS,
    )
    def __init__(
        self,
        env: str | GymnaxEnv,
        max_steps: SupportsIndex | None = None,
        model_factory: Callable[[Any], Any] = identity,
        data_fn: Callable[[Trajectory], Tree] | None = None,
        *,
        env_params: Tree = None,
        **options: Unpack[EnvOptions],
    ):
        self.env = env
        suite = _build(env, constructor_kwargs(env, options))
        self.env_params = _full_params(env, env_params, suite.default_params)
        steps = _horizon(env, self.env_params, max_steps)
        super().__init__(suite.layouts, steps, model_factory, data_fn, options)

    def environment(self) -> Environment:
        """Return the environment in `jax-envelope`'s form, with the `env_params`."""
        return _build(self.env, self.env_kwargs).environment(self.env_params)

    def artist(self) -> Artist:
        """The drawer of the environment: gymnax's own visualiser.

        **Raises:** `ValueError` for an environment that it does not draw, `ImportError`
        where pygame is missing.
        """
        environment: Any = self.environment()
        return gymnax_artist(environment.suite, environment.params)

    def _stopped(self, environment: Any) -> str | None:
        stopped = super()._stopped(environment)
        if stopped is None or not getattr(self.env, _SUPPORTS, False):
            return stopped
        return f"{stopped} `env.with_transition_gradients()` is one that does not."


# gymnax's attribute of environments that need not stop gradients.
_SUPPORTS = "supports_transition_gradients"


class _Suite(NamedTuple):
    environment: Callable[[Any], Environment]  # called with the parameters
    default_params: Any
    layouts: Layouts


@cached
def _build(env: str | GymnaxEnv, kws: Frozen) -> _Suite:
    _gymnax()  # before the adapter, which imports it in the slow way
    from ._gymnax_adapter import GymnaxAdapter

    # Computed at once even under jit, because the cache must not keep tracers.
    with jax.ensure_compile_time_eval():
        instance: Any = env
        if isinstance(env, str):
            instance = gymnax_make(env, kws.thaw())
            if getattr(instance, _SUPPORTS, False):
                instance = instance.with_transition_gradients()
        params = instance.default_params
        environment = functools.partial(GymnaxAdapter, instance)
        return _Suite(environment, params, layouts_of(environment(params)))


def _full_params(env: str | GymnaxEnv, given: Any, defaults: Any) -> Any:
    """Return the environment's parameters as arrays, updated by the given ones."""
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
    """Return the names that gymnax has registered. Imports gymnax."""
    return list(_gymnax().registered_envs)


def gymnax_make(name: str, kws: Mapping[str, Any]) -> GymnaxEnv:
    """Make gymnax's environment of a name.

    **Raises:** `ValueError` for an unknown name or keyword.
    """
    if name not in gymnax_names():
        raise ValueError(
            f"gymnax has no environment {name!r}. {closest(name, gymnax_names())}"
        )
    try:
        return _gymnax().make(name, **kws)[0]
    except TypeError as error:  # a keyword that it does not take
        raise ValueError(
            f"gymnax's {name!r} cannot be made with `env_kwargs={dict(kws)}`: {error}"
        ) from error


@functools.cache
def _gymnax() -> Any:
    # Three quarters of its import are seaborn and pyplot, with which it draws.
    with warnings.catch_warnings(), imported_lazily("seaborn", "matplotlib.pyplot"):
        warnings.simplefilter("ignore")  # matplotlib's deprecations
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
