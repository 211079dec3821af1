"""Collection of experience from environments side by side."""

from typing import Any

import jax
import jax.numpy as jnp

from ..._compile import compiled
from ..._keys import split
from ..._types import PRNGKeyArray
from ...policies import BasePolicy
from ...tasks import EnvTask, Experience, Stream
from .._devices import divided


def begun(
    env: EnvTask[Any], player: BasePolicy[Any], key: PRNGKeyArray, count: int
) -> Stream:
    """Return environments before their first step, compiled.

    Resets operation by operation may take minutes.

    **Arguments:**

    - `env`: the task.
    - `player`: the policy that will play.
    - `key`: splits into that of each environment.
    - `count`: the number of environments.
    """
    return compiled(_begin, {})(env, player, key, count)


def _begin(env: EnvTask[Any], player: Any, key: PRNGKeyArray, count: int) -> Stream:
    return env.begin_streams(player, split(key, count))


def collected(
    env: EnvTask[Any],
    player: BasePolicy[Any],
    streams: Stream,
    steps: int,
    n_devices: int = 1,
) -> tuple[Stream, Experience]:
    """Play some more steps of each environment.

    **Arguments:**

    - `env`: the task.
    - `player`: the policy that plays.
    - `streams`: the environments so far.
    - `steps`: the number of steps of each.
    - `n_devices`: over how many devices the environments are divided.

    **Returns:** The environments, and the experience with the leading axes
    `(steps, envs)`.
    """
    if n_devices == 1:
        return env.advance_streams(player, streams, steps)

    def play(streams: Stream, shared: Any) -> tuple[Stream, Experience]:
        env, player = shared
        streams, rows = env.advance_streams(player, streams, steps)
        return streams, _swapped(rows)

    streams, rows = divided(play, streams, (env, player), n_devices)
    return streams, _swapped(rows)


def _swapped(rows: Experience) -> Experience:
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), rows)
