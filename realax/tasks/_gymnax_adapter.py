"""gymnax's environments as environments of `jax-envelope`. Imports gymnax."""

import functools
from typing import Any, override

import jax.numpy as jnp
from envelope import (
    Continuous,
    Discrete,
    Environment,
    InfoContainer,
    PyTreeSpace,
    Space,
)
from envelope.struct import field, static_field
from gymnax.environments import spaces

from .._keys import fold_in, quick, split
from .._types import PRNGKeyArray


class GymnaxAdapter(Environment):
    """A gymnax environment that never resets itself.

    It reports its time limit as a truncation. `jax-envelope`'s own adapter either
    removes the time limit, on which some observations depend, or reports it as a
    termination, and it does not accept instances.
    """

    suite: Any = static_field(unsafe=True)
    params: Any = field()

    @override
    def init(self, key: PRNGKeyArray) -> tuple[Any, InfoContainer]:
        reset_key, step_key = split(key)
        obs, env_state = self.suite.reset_env(self._own(reset_key), self.params)
        state = {"env": env_state, "key": step_key, "t": jnp.zeros((), jnp.int32)}
        return state, InfoContainer(obs=obs, reward=0.0, terminated=False)

    @override
    def step(self, state: Any, action: Any) -> tuple[Any, InfoContainer]:
        key = fold_in(state["key"], state["t"])
        obs, env_state, reward, terminated, _ = self.suite.step_env(
            self._own(key), state["env"], action, self.params
        )
        truncated = self.suite.is_truncated(env_state, self.params)
        state = {"env": env_state, "key": state["key"], "t": state["t"] + 1}
        return state, InfoContainer(
            obs=obs, reward=reward, terminated=terminated, truncated=truncated
        )

    def _own(self, key: PRNGKeyArray) -> PRNGKeyArray:
        # gymnax itself does nothing but draw from a key; an environment of a user may.
        return quick(key) if type(self.suite).__module__.startswith("gymnax.") else key

    @functools.cached_property
    @override
    def observation_space(self) -> Space:
        return _space(self.suite.observation_space(self.params))

    @functools.cached_property
    @override
    def action_space(self) -> Space:
        return _space(self.suite.action_space(self.params))


def _space(space: Any) -> Space:
    """Return the envelope space that equals a gymnax space."""

    def convert(space: Any) -> Any:
        match space:
            case spaces.Discrete():
                return Discrete(n=jnp.asarray(space.n, space.dtype))
            case spaces.Box():
                low, high = (
                    jnp.broadcast_to(jnp.asarray(bound, space.dtype), space.shape)
                    for bound in (space.low, space.high)
                )
                return Continuous(low=low, high=high)
            case spaces.Tuple():
                return tuple(map(convert, space.spaces))
            case spaces.Dict():
                return {name: convert(part) for name, part in space.spaces.items()}
            case _:
                raise TypeError(f"gymnax space {space!r} has no known meaning.")

    converted = convert(space)
    return converted if isinstance(converted, Space) else PyTreeSpace(tree=converted)
