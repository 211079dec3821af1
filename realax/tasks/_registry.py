"""Looking an environment up by its name alone."""

from collections.abc import Iterator, Mapping
from typing import Any

from .._errors import closest
from ._brax import BraxTask, brax_names
from ._env import EnvTask
from ._gymnax import GymnaxTask, gymnax_names
from ._spaces import EnvSpace


class _EnvSpaces(Mapping[str, EnvSpace]):
    """`(obs_dims, action_dims, discrete)` of every gymnax and brax environment.

    Each is asked of the environment itself when it is looked up, never earlier.

    **Raises:** `KeyError` with the closest matches for an unknown name.
    """

    def __getitem__(self, name: str) -> EnvSpace:
        return task_of(name).space

    def __iter__(self) -> Iterator[str]:
        yield from brax_names()
        yield from gymnax_names()

    def __len__(self) -> int:
        return len(brax_names()) + len(gymnax_names())


def task_of(name: str) -> EnvTask[Any]:
    """A task on the gymnax or brax environment of that name, with default settings.

    **Raises:** `KeyError` with the closest matches for an unknown name.
    """
    # gymnax takes seconds to import: brax, with its twelve plain names, is asked first.
    if name in brax_names():
        return BraxTask(name)
    if name in gymnax_names():
        return GymnaxTask(name)
    raise KeyError(
        f"no gymnax or brax environment {name!r}. "
        f"{closest(name, [*brax_names(), *gymnax_names()])}"
    )


ENV_SPACES: Mapping[str, EnvSpace] = _EnvSpaces()
