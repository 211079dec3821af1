"""Environments of every suite that jax-envelope adapts, and one's own, as tasks."""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, SupportsIndex, cast

import equinox as eqx
import jax

from .._arguments import arguments
from .._errors import closest
from .._frozen import Frozen, cached, freeze, identity
from .._types import EXECUTION, Tree
from ._checks import EPISODES, environment
from ._env import Environment, EnvTask, Params, check_kwargs
from ._rollout import Trajectory
from ._spaces import Layout, layout_of


# The module whose absence means that a suite is not installed, and what to do then.
_EXTRA = "`pip install 'realax[{}]'` brings it."
_SUITES = {
    "craftax": ("craftax", _EXTRA.format("craftax")),
    "jumanji": ("jumanji", _EXTRA.format("jumanji")),
    "kinetix": ("kinetix", "its releases ask for jax 0.9 at most, realax for 0.11."),
    "mujoco_playground": ("mujoco_playground", _EXTRA.format("playground")),
    "navix": ("navix", _EXTRA.format("navix")),
}


def is_environment(value: Any) -> bool:
    """Whether something is an environment of jax-envelope, which this imports."""
    from envelope import Environment

    return isinstance(value, Environment)


class EnvelopeTask(EnvTask[Params]):
    """Episodes on any `envelope.Environment`.

    **Arguments:**

    - `env`: `"suite::name"`, such as `"jumanji::Snake-v1"`, or an environment, one's
        own subclass of `envelope.Environment` included. An environment's arrays are
        leaves of the task.
    - `max_steps`: the longest episode, in steps; the suite's own horizon if `None`.
    - `model_factory`: makes a `BasePolicy` from the parameters; by default they are
        the policy.
    - `data_fn`: what becomes the aux, from an episode's `Trajectory`; only what it
        returns is kept.
    - `env_kwargs`: for the environment's constructor, where `env` is a name.
    - `lanes`: how many episodes a population plays side by side, a lane taking the next
        one when its own is over; `None` chooses, 0 plays all at once.
    - `chunk`: after how many steps at most free lanes take new episodes; `None`: as
        soon as a quarter of them is free.
    - `normalize_obs`: whether evolution keeps a running mean and variance of all live
        observations in its state, and policies see observations normalised by them. The
        policy that comes back is a `NormalizedPolicy`, with them frozen into it.

    **Raises:** `ValueError` for an unknown suite or name and for a missing or
    impossible horizon; `ImportError` that names the extra to install.
    """

    env: Any
    max_steps: int = eqx.field(static=True)
    model_factory: Callable[[Any], Any]
    data_fn: Callable[[Trajectory], Tree] | None
    lanes: int | None = eqx.field(static=True, metadata=EXECUTION)
    chunk: int | None = eqx.field(static=True, metadata=EXECUTION)
    normalize_obs: bool = eqx.field(static=True)
    env_kwargs: Frozen = eqx.field(static=True)
    obs_layout: Layout = eqx.field(static=True, init=False)
    action_layout: Layout = eqx.field(static=True, init=False)

    @arguments(
        env=environment("an `envelope.Environment`", is_environment),
        **EPISODES,
    )
    def __init__(
        self,
        env: Any,
        max_steps: SupportsIndex | None = None,
        model_factory: Callable[[Any], Any] = identity,
        data_fn: Callable[[Trajectory], Tree] | None = None,
        *,
        env_kwargs: Mapping[str, Any] | None = None,
        lanes: SupportsIndex | None = None,
        chunk: SupportsIndex | None = None,
        normalize_obs: bool = False,
    ):
        check_kwargs(env, env_kwargs)
        self.env = env
        self.env_kwargs = freeze(env_kwargs)
        suite = _build(env, self.env_kwargs) if isinstance(env, str) else _look(env)
        if max_steps is None:
            max_steps = _horizon(env, suite.environment, self.env_kwargs)
        if max_steps is None:
            raise ValueError(
                f"`max_steps` must be given for {type(suite.environment).__name__}, "
                "because it has no horizon of its own: `max_steps=1000`."
            )
        self.max_steps = cast(int, max_steps)
        self.model_factory = model_factory
        self.data_fn = data_fn
        self.lanes = cast(int | None, lanes)
        self.normalize_obs = normalize_obs
        self.chunk = cast(int | None, chunk)
        self.obs_layout = suite.obs_layout
        self.action_layout = suite.action_layout

    def environment(self) -> Environment:
        """The environment itself."""
        if isinstance(self.env, str):
            return _build(self.env, self.env_kwargs).environment
        return self.env


class _Suite(NamedTuple):
    environment: Environment
    obs_layout: Layout
    action_layout: Layout


def _look(environment: Any) -> _Suite:
    with jax.ensure_compile_time_eval():
        return _Suite(
            environment,
            layout_of(environment.observation_space),
            layout_of(environment.action_space),
        )


def _horizon(env: Any, environment: Any, kws: Frozen) -> int | None:
    """The suite's own horizon. envelope says 100 for whatever navix has."""
    if isinstance(env, str) and env.startswith("navix::"):
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
    # Under jit, what is built here would hold tracers and outlive them in the cache.
    with jax.ensure_compile_time_eval():
        # The time limit stays with the suite's `default_max_steps`: episodes are ended
        # by the rollout.
        return _look(create(name, kws.thaw(), max_episode_steps=None))
