"""brax environments as tasks."""

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Protocol, SupportsIndex, Unpack, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from .._arguments import arguments, one_of, optional, whole
from .._errors import closest
from .._frozen import Frozen, cached, identity
from .._types import Tree
from ._checks import environment
from ._env import Environment, EnvTask, Params
from ._options import ENV_CHECKS, EnvOptions, constructor_kwargs
from ._render import Artist
from ._render_brax import brax_artist
from ._rollout import Trajectory
from ._spaces import Layout, Layouts, layout_of


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
        """Return the first state."""
        ...

    def step(self, state: Any, action: Any) -> Any:
        """Return the next state."""
        ...


_BACKENDS = ("generalized", "positional", "spring", "mjx")
# XLA's YNN kernels make single large matrix products faster. They slow down the many
# small ones of a simulation, and their threads take cores from other devices.
_WITHOUT_YNN = {"xla_cpu_experimental_ynn_fusion_type": ""}


class BraxTask(EnvTask[Params]):
    """The return of a policy's episode on a brax environment.

    **Arguments:**

    - `env`: a name such as `"ant"`, or an instance of `brax.envs.Env`, also of your own
        subclass. Pass an instance without auto-reset or batch wrappers: the task itself
        ends episodes and maps over them.
    - `max_steps`, `model_factory`, `data_fn`, `env_kwargs`, `lanes`, `chunk`,
        `normalize_obs`, `flatten_obs`, `descriptor`: as for every `EnvTask`.
    - `backend`: the physics engine if `env` is a name: `"generalized"`, `"positional"`
        (by default), `"spring"` or `"mjx"`. An instance has its own.

    **Raises:** `ValueError` for an unknown name or backend, and for a horizon below 1.
    """

    env: str | BraxEnv = eqx.field(static=True)
    backend: str = eqx.field(static=True)

    @arguments(
        env=environment("a brax environment", lambda value: isinstance(value, BraxEnv)),
        backend=optional(one_of(*_BACKENDS)),
        **{**ENV_CHECKS, "max_steps": whole()},
    )
    def __init__(
        self,
        env: str | BraxEnv,
        max_steps: SupportsIndex = 1000,
        model_factory: Callable[[Any], Any] = identity,
        data_fn: Callable[[Trajectory], Tree] | None = None,
        *,
        backend: str | None = None,
        **options: Unpack[EnvOptions],
    ):
        self.env = env
        self.backend = _backend(env, backend)
        suite = _build(env, self.backend, constructor_kwargs(env, options))
        super().__init__(suite.layouts, max_steps, model_factory, data_fn, options)

    @property
    def compiler_options(self) -> dict[str, Any]:
        """An option that disables XLA's YNN kernels on CPU, except for MJX.

        Empty if `XLA_FLAGS` sets the same option. The option is experimental; all
        versions of jax that realax supports have it.
        """
        if self.backend == "mjx" or jax.default_backend() != "cpu":
            return {}
        if any(name in os.environ.get("XLA_FLAGS", "") for name in _WITHOUT_YNN):
            return {}
        return dict(_WITHOUT_YNN)

    def environment(self) -> Environment:
        """Return the environment in `jax-envelope`'s form."""
        return _build(self.env, self.backend, self.env_kwargs).environment

    def artist(self) -> Artist:
        """The drawer of the environment: brax's own viewer, as one page.

        **Raises:** `ValueError` for an environment without a body.
        """
        environment: Any = self.environment()
        return brax_artist(environment.brax_env)

    def _stopped(self, environment: Any) -> str | None:
        # Tracing a step takes a second, and no environment of brax stops gradients.
        named = isinstance(self.env, str)
        return None if named else super()._stopped(environment)


class _Suite(NamedTuple):
    environment: Environment
    layouts: Layouts


@cached
def _build(env: str | BraxEnv, backend: str, kws: Frozen) -> _Suite:
    _brax_envs()
    from envelope.adapters.brax_envelope import BraxEnvelope

    # Computed at once even under jit, because the cache must not keep tracers.
    with jax.ensure_compile_time_eval(), _quietly():
        if isinstance(env, str):
            instance = _by_name(env, backend, kws.thaw())
        else:
            _check_unwrapped(env)
            instance = env
        environment = BraxEnvelope(brax_env=instance)
        actions = layout_of(environment.action_space)
    return _Suite(environment, Layouts(_obs_layout(instance), actions))


def _obs_layout(env: BraxEnv) -> Layout:
    """Return the layout of observations, from a reset that is only traced.

    brax itself finds their size by a reset that it runs operation by operation, which
    takes twenty times as long.
    """
    from envelope import Continuous, PyTreeSpace

    with _quietly():
        obs = eqx.filter_eval_shape(env.reset, jr.key(0)).obs
    box = lambda x: Continuous.from_shape(-jnp.inf, jnp.inf, x.shape)
    return layout_of(PyTreeSpace(jax.tree.map(box, obs)))


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
    except (
        TypeError,
        ValueError,
    ) as error:  # a wrong keyword or backend
        raise ValueError(
            f"brax's {name!r} cannot be made with `backend={backend!r}` and "
            f"`env_kwargs={kws}`: {error} Every environment but "
            'swimmer plays on `backend="generalized"`.'
        ) from error


def _check_unwrapped(env: Any) -> None:
    from brax.envs.wrappers import training

    while hasattr(env, "env"):
        for wrapper in ("AutoResetWrapper", "EpisodeWrapper", "VmapWrapper"):
            if isinstance(env, getattr(training, wrapper)):
                raise ValueError(
                    f"`env` is wrapped in brax's {wrapper}, but the task itself ends, "
                    "resets and maps over episodes. Use "
                    "`brax.envs.get_environment(name)`, which has no wrappers, and "
                    "`max_steps` for the time limit."
                )
        env = env.env


def brax_names() -> list[str]:
    """Return the names of the environments that brax has registered. Imports brax."""
    _brax_envs()
    from envelope.adapters.brax_envelope import BraxEnvelope

    return list(BraxEnvelope.registered_names())


def _brax_envs() -> Any:
    with _quietly():
        import brax.envs
    return brax.envs


@contextlib.contextmanager
def _quietly() -> Generator[None]:
    """Suppress brax's warnings and output.

    It warns that it is unmaintained, and prints which accelerators are missing.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
