"""Tasks on environments of any suite, by name."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Unpack

from .._arguments import arguments
from .._errors import closest
from ._brax import BraxEnv, BraxTask, brax_names
from ._checks import environment
from ._env import EnvTask
from ._envelope import EnvelopeTask, is_environment
from ._gymnasium import GymnasiumTask
from ._gymnax import GymnaxEnv, GymnaxTask, gymnax_names
from ._options import MakeOptions
from ._spaces import EnvSpace


def _is_environment(env: Any) -> bool:
    return isinstance(env, GymnaxEnv | BraxEnv) or is_environment(env)


@arguments(
    env=environment(
        "a gymnax, brax or `envelope.Environment` environment", _is_environment
    )
)
def make(env: Any, **options: Unpack[MakeOptions]) -> EnvTask[Any] | GymnasiumTask[Any]:
    """Return a task on an environment of any suite.

    **Arguments:**

    - `env`: a gymnax or brax name, such as `"CartPole-v1"` or `"reacher"`; a
        `"suite::name"` of any suite that jax-envelope adapts, such as
        `"jumanji::Snake-v1"`; `"gymnasium::Ant-v5"`, which runs on the host; or an
        instance of an environment: gymnax's, brax's, or an `envelope.Environment`.
    - `options`: keywords of the task's class, which is `GymnaxTask`, `BraxTask`,
        `EnvelopeTask` or `GymnasiumTask`.

    **Raises:** `ValueError` with the closest matches for an unknown name;
    `ImportError`, which names the remedy, if the suite is missing.
    """
    kws: dict[str, Any] = {**options}
    if not isinstance(env, str):
        return _task_class(env)(env, **kws)
    suite, separator, name = env.partition("::")
    if not separator:
        return _class_of(env)(env, **kws)
    match suite:
        case "gymnax":
            return GymnaxTask(name, **kws)
        case "brax":
            return BraxTask(name, **kws)
        case "gymnasium":
            return GymnasiumTask(name, **kws)
        case _:
            return EnvelopeTask(env, **kws)


def _task_class(env: Any) -> Callable[..., EnvTask[Any]]:
    if isinstance(env, GymnaxEnv):
        return GymnaxTask
    return BraxTask if isinstance(env, BraxEnv) else EnvelopeTask


def _class_of(name: str) -> Callable[..., EnvTask[Any]]:
    suites = [(brax_names, BraxTask), (gymnax_names, GymnaxTask)]
    # Each takes a third of a second or more to import, so that the likely one is asked
    # first: all names of gymnax have a hyphen, and none of brax's own.
    if "-" in name:
        suites.reverse()
    for names, task in suites:
        if name in names():
            return task
    raise ValueError(
        f"no gymnax or brax environment {name!r}, and no 'suite::name'. "
        f"{closest(name, [*brax_names(), *gymnax_names()])}"
    )


class _EnvSpaces(Mapping[str, EnvSpace]):
    """The `EnvSpace` of every environment that `make` knows, by name.

    A look-up builds the environment. Iteration yields the names of brax and gymnax.

    **Raises:** `KeyError` with the closest matches for an unknown name.
    """

    def __getitem__(self, name: str) -> EnvSpace:
        try:
            suite, _, short = name.rpartition("::")
            if suite == "brax" or (not suite and _class_of(short) is BraxTask):
                # The one backend of all of brax's environments. Sizes are equal on all.
                return BraxTask(short, backend="generalized").space
            return make(name).space
        except ValueError as error:
            raise KeyError(str(error)) from error

    def __iter__(self) -> Iterator[str]:
        yield from brax_names()
        yield from gymnax_names()

    def __len__(self) -> int:
        return len(brax_names()) + len(gymnax_names())


ENV_SPACES: Mapping[str, EnvSpace] = _EnvSpaces()
