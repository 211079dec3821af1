"""gymnasium's environments: how they are made, and their spaces in another form."""

import warnings
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._callables import name_of
from .._check import no_type_check
from .._errors import closest, describe


# Larger observations are images, on which an MLP learns nothing.
_MOST_FLAT = 10_000

# Converts a value of gymnasium, or to one.
type Convert = Callable[[Any], Any]


def build(env: Any, kws: dict[str, Any]) -> Any:
    """Return a new environment.

    **Arguments:**

    - `env`: a name, or a function that makes an environment.
    - `kws`: arguments of the constructor, for a name.

    **Raises:** `ValueError` with the closest matches for an unknown name; `TypeError`
    if the function makes anything else.
    """
    import gymnasium

    if not isinstance(env, str):
        made = env()
        if isinstance(made, gymnasium.vector.VectorEnv):
            raise TypeError(
                f"{name_of(env)} must make one environment, but got a `VectorEnv`. A "
                "task plays many side by side itself."
            )
        if not isinstance(made, gymnasium.Env):
            raise TypeError(
                f"{name_of(env)} must make a `gymnasium.Env`, but got {describe(made)}."
            )
        return made
    _check_known(env)
    with warnings.catch_warnings():
        # Of gymnasium, about its own older versions of an environment.
        warnings.simplefilter("ignore", DeprecationWarning)
        return gymnasium.make(env, disable_env_checker=True, **kws)


def _check_known(name: str) -> None:
    import gymnasium

    if ":" in name or name in gymnasium.registry:  # "module:name" imports the module
        return
    raise ValueError(
        f"no gymnasium environment {name!r}. {closest(name, gymnasium.registry)} An "
        "environment that another package registers is named `'package:name'`."
    )


def check_size(space: Any, name: str) -> None:
    """Refuse observations that are too large to flatten.

    **Raises:** `ValueError` with the remedy.
    """
    from gymnasium.spaces.utils import flatdim

    size = flatdim(space) if space.is_np_flattenable else 0
    if size > _MOST_FLAT:
        raise ValueError(
            f"the observations of {name} are too large to flatten, {size} numbers of "
            f"shape {space.shape}. Pass `flatten_obs=False`, and a policy for images."
        )


def envelope_space(space: Any, name: str) -> Any:
    """Return a space of gymnasium as one of `jax-envelope`.

    **Raises:** `TypeError` for a space that has none.
    """
    import envelope
    from gymnasium import spaces

    match space:
        case spaces.Discrete():
            return envelope.Discrete(n=jnp.asarray(int(space.n), jnp.int32))
        case spaces.MultiDiscrete():
            return envelope.Discrete(n=jnp.asarray(space.nvec, jnp.int32))
        case spaces.MultiBinary():
            return envelope.Discrete(n=jnp.full(space.shape, 2, jnp.int32))
        case spaces.Box():
            return envelope.Continuous(jnp.asarray(space.low), jnp.asarray(space.high))
        case spaces.Dict() | spaces.Tuple():
            return envelope.PyTreeSpace(_tree(space, name))
        case _:
            raise TypeError(
                f"{name} has the space {space}, but only `Box`, `Discrete`, "
                "`MultiDiscrete`, `MultiBinary`, and `Dict` and `Tuple` of these have a"
                " fixed shape. Wrap the environment in one that has such a space."
            )


def _tree(space: Any, name: str) -> Any:
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return {key: _tree(one, name) for key, one in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_tree(one, name) for one in space.spaces)
    return envelope_space(space, name)


def from_gymnasium(space: Any) -> Convert:
    """Return a function that converts values of a space to trees of numpy arrays.

    Choices count from 0. The function raises `ValueError` for another shape.
    """
    return _converter(space, _from_leaf)


def to_gymnasium(space: Any) -> Convert:
    """Return a function that converts trees of numpy arrays to values of a space."""
    return _converter(space, _to_leaf)


def _converter(space: Any, of_leaf: Callable[[Any], Convert]) -> Convert:
    """Return a function that converts each part of a value."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        named = {key: _converter(one, of_leaf) for key, one in space.spaces.items()}
        return no_type_check(
            lambda value: {key: part(value[key]) for key, part in named.items()}
        )
    if isinstance(space, spaces.Tuple):
        parts = tuple(_converter(one, of_leaf) for one in space.spaces)
        return no_type_check(
            lambda value: tuple(f(x) for f, x in zip(parts, value, strict=True))
        )
    return of_leaf(space)


def _from_leaf(space: Any) -> Convert:
    from gymnasium import spaces

    counts = isinstance(space, spaces.Discrete | spaces.MultiDiscrete)
    first = np.asarray(space.start, np.int32) if counts else None
    dtype = space.dtype if isinstance(space, spaces.Box) else np.int32
    shape = space.shape

    def convert(value: Any) -> np.ndarray:
        found = np.asarray(value, dtype)
        if found.shape != shape:
            raise ValueError(
                f"an observation of the space {space} must have the shape {shape}, but "
                f"the environment returned one of shape {found.shape}."
            )
        return found if first is None else np.asarray(found - first)

    return convert


def _to_leaf(space: Any) -> Convert:
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return lambda value: int(value) + start
    if isinstance(space, spaces.MultiDiscrete):
        first, dtype = space.start, space.dtype
        return lambda value: np.asarray(value + first, dtype)
    return lambda value: np.array(value, space.dtype)  # which may be written to


@no_type_check
def one_number(reward: Any, name: str) -> float:
    """Return a reward as a number.

    **Raises:** `TypeError` for the rewards of several agents.
    """
    if isinstance(reward, dict) or np.ndim(reward) != 0:
        raise TypeError(
            f"the reward of {name} must be one number, but got {describe(reward)}, as "
            "several agents get them. Wrap the environment in one that adds them up."
        )
    return float(reward)
