"""Environments of jax-envelope, of any suite or your own, as tasks."""

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex, Unpack

import jax

from .._arguments import arguments
from .._errors import closest
from .._frozen import Frozen, cached, identity
from .._types import Tree
from ._checks import environment
from ._env import Environment, EnvTask, Params
from ._options import ENV_CHECKS, EnvOptions, constructor_kwargs
from ._rollout import Trajectory
from ._spaces import Layouts, layouts_of


# The module of each optional suite, and the remedy if it is missing.
_EXTRA = "`pip install 'realax[{}]'` brings it."
_SUITES = {
    "craftax": ("craftax", _EXTRA.format("craftax")),
    "jumanji": ("jumanji", _EXTRA.format("jumanji")),
    "kinetix": ("kinetix", "its releases ask for jax 0.9 at most, realax for 0.11."),
    "mujoco_playground": ("mujoco_playground", _EXTRA.format("playground")),
    "navix": ("navix", _EXTRA.format("navix")),
}


def is_environment(value: Any) -> bool:
    """Return whether an object is an environment of jax-envelope. Imports envelope."""
    from envelope import Environment

    return isinstance(value, Environment)


class EnvelopeTask(EnvTask[Params]):
    """The return of a policy's episode on any `envelope.Environment`.

    **Arguments:**

    - `env`: `"suite::name"`, such as `"jumanji::Snake-v1"`, or an environment, also of
        your own subclass of `envelope.Environment`. An environment's arrays are leaves
        of the task.
    - `max_steps`: the longest episode, in steps; the suite's own horizon if `None`.
    - `model_factory`, `data_fn`, `env_kwargs`, `lanes`, `chunk`, `normalize_obs`,
        `flatten_obs`, `descriptor`: as for every `EnvTask`.

    **Raises:** `ValueError` for an unknown suite or name, and for a missing or
    impossible horizon; `ImportError`, which names the remedy, if the suite is missing.
    """

    env: Any

    @arguments(
        env=environment("an `envelope.Environment`", is_environment),
        **ENV_CHECKS,
    )
    def __init__(
        self,
        env: Any,
        max_steps: SupportsIndex | None = None,
        model_factory: Callable[[Any], Any] = identity,
        data_fn: Callable[[Trajectory], Tree] | None = None,
        **options: Unpack[EnvOptions],
    ):
        kws = constructor_kwargs(env, options)
        self.env = env
        suite = _build(env, kws) if isinstance(env, str) else _look(env)
        if max_steps is None:
            max_steps = _horizon(env, suite.environment, kws)
        if max_steps is None:
            raise ValueError(
                f"`max_steps` must be given for {type(suite.environment).__name__}, "
                "because it has no horizon of its own: `max_steps=1000`."
            )
        super().__init__(suite.layouts, max_steps, model_factory, data_fn, options)

    def environment(self) -> Environment:
        """Return the environment."""
        if isinstance(self.env, str):
            return _build(self.env, self.env_kwargs).environment
        return self.env


class _Suite(NamedTuple):
    environment: Environment
    layouts: Layouts


def _look(environment: Any) -> _Suite:
    with jax.ensure_compile_time_eval():
        return _Suite(environment, layouts_of(environment))


def _horizon(env: Any, environment: Any, kws: Frozen) -> int | None:
    """Return the suite's own horizon, or `None` if it has none."""
    if isinstance(env, str) and env.startswith("navix::"):
        # envelope reports 100 for all environments of navix.
        import navix  # pyright: ignore[reportMissingModuleSource]

        return int(navix.make(env.removeprefix("navix::"), **kws.thaw()).max_steps)
    return environment.default_max_steps


@cached
def _build(name: str, kws: Frozen) -> _Suite:
    from envelope import create, registered_environments, registered_suites

    suite, separator, env_name = name.partition("::")
    if not separator or suite not in registered_suites():
        raise ValueError(
            f"`env` must be 'suite::name', but got {name!r}. "
            f"{closest(suite, registered_suites())}"
        )
    module, remedy = _SUITES.get(suite, ("envelope", ""))
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"the suite of {name!r} is not installed: {remedy}")
    known = registered_environments(suite)
    if known and name not in known:
        names = [entry.removeprefix(f"{suite}::") for entry in known]
        raise ValueError(
            f"{suite} has no environment {env_name!r}. {closest(env_name, names)}"
        )
    # Computed at once even under jit, because the cache must not keep tracers.
    with jax.ensure_compile_time_eval():
        # Without the suite's time limit, because the rollout ends episodes. The suite's
        # `default_max_steps` still reports it.
        return _look(create(name, kws.thaw(), max_episode_steps=None))
