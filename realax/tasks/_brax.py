"""brax environments as tasks."""

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple, Protocol, SupportsIndex, cast, runtime_checkable

import equinox as eqx
import jax

from .._arguments import arguments, one_of, optional, whole
from .._errors import closest
from .._frozen import Frozen, cached, freeze, identity
from .._types import EXECUTION, Tree
from ._checks import EPISODES, environment
from ._env import Environment, EnvTask, Params, check_kwargs
from ._rollout import Trajectory
from ._spaces import Layout, layout_of


@runtime_checkable
class BraxEnv(Protocol):
    """The part of `brax.envs.Env` that is used."""

    @property
    def observation_size(self) -> Any:
        """The size of the observation."""
        ...

    @property
    def action_size(self) -> int:
        """The size of the action."""
        ...

    def reset(self, rng: Any) -> Any:
        """The first state."""
        ...

    def step(self, state: Any, action: Any) -> Any:
        """The next state."""
        ...


_BACKENDS = ("generalized", "positional", "spring", "mjx")
# These kernels make a product faster that stands alone. Among the many small steps of a
# simulation they make it slower, and their threads take cores from other devices.
_WITHOUT_YNN = {"xla_cpu_experimental_ynn_fusion_type": ""}


class BraxTask(EnvTask[Params]):
    """Episodes on a brax environment.

    **Arguments:**

    - `env`: a name such as `"ant"`, or an instance of `brax.envs.Env`, one's own
        subclass included. Give an instance without auto-reset or batch wrappers:
        episodes are ended and mapped over here.
    - `max_steps`: the longest episode, in steps.
    - `model_factory`: makes a `BasePolicy` from the parameters; by default they are
        the policy.
    - `data_fn`: what becomes the aux, from an episode's `Trajectory`; only what it
        returns is kept.
    - `backend`: the physics, `"generalized"`, `"positional"` (by default), `"spring"`
        or `"mjx"`, where `env` is a name. An instance has its own.
    - `env_kwargs`: for the environment's constructor, where `env` is a name.
    - `lanes`: how many episodes a population plays side by side, a lane taking the next
        one when its own is over; `None` chooses, 0 plays all at once.
    - `chunk`: after how many steps at most free lanes take new episodes; `None`: as
        soon as a quarter of them is free.
    - `normalize_obs`: whether evolution keeps a running mean and variance of all live
        observations in its state, and policies see observations normalised by them. The
        policy that comes back is a `NormalizedPolicy`, with them frozen into it.

    **Raises:** `ValueError` for an unknown name or backend and a horizon below 1.
    """

    env: str | BraxEnv = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    model_factory: Callable[[Any], Any]
    data_fn: Callable[[Trajectory], Tree] | None
    lanes: int | None = eqx.field(static=True, metadata=EXECUTION)
    chunk: int | None = eqx.field(static=True, metadata=EXECUTION)
    normalize_obs: bool = eqx.field(static=True)
    backend: str = eqx.field(static=True)
    env_kwargs: Frozen = eqx.field(static=True)
    obs_layout: Layout = eqx.field(static=True, init=False)
    action_layout: Layout = eqx.field(static=True, init=False)

    @arguments(
        env=environment("a brax environment", lambda value: isinstance(value, BraxEnv)),
        backend=optional(one_of(*_BACKENDS)),
        **{**EPISODES, "max_steps": whole()},
    )
    def __init__(
        self,
        env: str | BraxEnv,
        max_steps: SupportsIndex = 1000,
        model_factory: Callable[[Any], Any] = identity,
        data_fn: Callable[[Trajectory], Tree] | None = None,
        *,
        backend: str | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        lanes: SupportsIndex | None = None,
        chunk: SupportsIndex | None = None,
        normalize_obs: bool = False,
    ):
        check_kwargs(env, env_kwargs)
        self.env = env
        self.max_steps = cast(int, max_steps)
        self.model_factory = model_factory
        self.data_fn = data_fn
        self.lanes = cast(int | None, lanes)
        self.normalize_obs = normalize_obs
        self.chunk = cast(int | None, chunk)
        self.backend = _backend(env, backend)
        self.env_kwargs = freeze(env_kwargs)
        suite = _build(env, self.backend, self.env_kwargs)
        self.obs_layout = suite.obs_layout
        self.action_layout = suite.action_layout

    @property
    def compiler_options(self) -> dict[str, Any]:
        """XLA without its YNN kernels: on CPU, unless the physics are MJX.

        None where `XLA_FLAGS` says something of them.
        """
        if self.backend == "mjx" or jax.default_backend() != "cpu":
            return {}
        if any(name in os.environ.get("XLA_FLAGS", "") for name in _WITHOUT_YNN):
            return {}
        return dict(_WITHOUT_YNN)

    def environment(self) -> Environment:
        """The environment as `jax-envelope` sees it."""
        return _build(self.env, self.backend, self.env_kwargs).env

    def _stopped(self) -> str | None:
        # Tracing a step takes a second; none of brax's own stops gradients.
        return None if isinstance(self.env, str) else super()._stopped()


class _Suite(NamedTuple):
    env: Environment
    obs_layout: Layout
    action_layout: Layout


@cached
def _build(env: str | BraxEnv, backend: str, kws: Frozen) -> _Suite:
    _brax_envs()
    from envelope.adapters.brax_envelope import BraxEnvelope

    # Under jit, what is built here would hold tracers and outlive them in the cache.
    with jax.ensure_compile_time_eval(), _quietly():
        if isinstance(env, str):
            instance = _by_name(env, backend, kws.thaw())
        else:
            _check_unwrapped(env)
            instance = env
        environment = BraxEnvelope(brax_env=instance)
        return _Suite(
            environment,
            layout_of(environment.observation_space),
            layout_of(environment.action_space),
        )


def _backend(env: str | BraxEnv, given: str | None) -> str:
    if isinstance(env, str):
        return given or "positional"
    own = str(getattr(env, "backend", "unknown"))
    if given not in (None, own):
        raise ValueError(
            f"`backend` is for an environment given by name, but got {given!r} beside "
            f"an instance of {type(env).__name__}, whose own is {own!r}. Make the "
            f"instance with it: `brax.envs.get_environment(name, backend={given!r})`."
        )
    return own


def _by_name(name: str, backend: str, kws: dict[str, Any]) -> BraxEnv:
    if name not in brax_names():
        raise ValueError(
            f"brax has no environment {name!r}. {closest(name, brax_names())}"
        )
    try:
        return _brax_envs().get_environment(name, backend=backend, **kws)
    except (TypeError, ValueError) as error:  # a keyword or backend it does not take
        raise ValueError(
            f"brax's {name!r} can not be made with `backend={backend!r}` and "
            f"`env_kwargs={kws}`: {error} Every environment but "
            'swimmer plays on `backend="generalized"`.'
        ) from error


def _check_unwrapped(env: Any) -> None:
    from brax.envs.wrappers import training

    while hasattr(env, "env"):
        for wrapper in ("AutoResetWrapper", "EpisodeWrapper", "VmapWrapper"):
            if isinstance(env, getattr(training, wrapper)):
                raise ValueError(
                    f"`env` comes in brax's {wrapper}, but episodes are ended, reset "
                    "and mapped over by the task. Use `brax.envs.get_environment(name)`"
                    ", which has no wrappers, and `max_steps` for the time limit."
                )
        env = env.env


def brax_names() -> list[str]:
    """The environments that brax has registered. Imports brax."""
    _brax_envs()
    from envelope.adapters.brax_envelope import BraxEnvelope

    return list(BraxEnvelope.registered_names())


def _brax_envs() -> Any:
    with _quietly():
        import brax.envs
    return brax.envs


@contextlib.contextmanager
def _quietly() -> Generator[None]:
    """brax warns that it is unmaintained, and prints which accelerators it lacks."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
