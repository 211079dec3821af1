"""Pictures of episodes: what is kept of an episode, and the file that it goes to."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from .._compile import compiled
from .._storage._atomic import cannot_write, make_folder, replace
from .._types import PRNGKeyArray, Tree
from ._lane_jobs import Player
from ._rollout import Episode, Trajectory


class Artist(NamedTuple):
    """The drawer of one environment's episodes.

    - `suffix`: the ending of its files, such as `".gif"`.
    - `look`: a function from the environment's state to the part of it that is drawn.
        It is traced, and compared by identity: define it in a module.
    - `draw`: a function from what was seen in each frame, in numpy arrays, and from the
        returns so far, to the contents of the file.
    """

    suffix: str
    look: Callable[[Tree], Tree]
    draw: Callable[[list[Tree], Float[np.ndarray, " frames"]], bytes]


@runtime_checkable
class Drawable(Player, Protocol):
    """The part of an environment task by which its episodes are drawn."""

    @property
    def compiler_options(self) -> dict[str, Any]:
        """XLA's options for its episodes."""
        ...

    def artist(self) -> Artist:
        """The drawer of its environment."""
        ...


class _Frames(eqx.Module):
    """An episode to draw: one frame before the first step, and one after each.

    After the episode's end the last frame is repeated.
    """

    looks: Tree
    returns: Float[Array, " frames"]
    length: Int[Array, ""]


def draw_episode(
    task: Drawable, params: Any, key: PRNGKeyArray, file: pathlib.Path
) -> pathlib.Path:
    """Draw the episode that `task(params, key)` scores.

    **Arguments:**

    - `task`, `params`, `key`: as for a call of the task.
    - `file`: the path of the file; its folder is made if missing.

    **Returns:** The path of the file.

    **Raises:** `ValueError` for another ending than the artist's, `OSError` if the file
    cannot be written, `RuntimeError` under a trace.
    """
    _check_not_traced(task, params, key)
    artist = task.artist()
    if file.suffix.lower() != artist.suffix:
        raise ValueError(
            f"`path` of `render` must end in {artist.suffix!r} for this environment, "
            f"but got {str(file)!r}. Choose {str(file.with_suffix(artist.suffix))!r}."
        )
    make_folder(file.parent, "path")
    program = compiled(_frames, task.compiler_options)
    frames = jax.device_get(program(task, artist.look, params, key))
    number = int(frames.length) + 1
    of_frame = lambda i: jax.tree.map(lambda x: x[i], frames.looks)
    contents = artist.draw([*map(of_frame, range(number))], frames.returns[:number])
    try:
        replace(file, [contents])
    except OSError as error:
        raise cannot_write(error, "path", file) from error
    return file


def _frames(
    task: Drawable, look: Callable[[Tree], Tree], params: Any, key: PRNGKeyArray
) -> _Frames:
    def seen(episode: Episode) -> Tree:
        return jax.tree.map(jnp.asarray, (look(episode.env_state), episode.total))

    def before(episode: Episode, row: Trajectory) -> Tree:
        del row
        return seen(episode)

    end, rows = task.rules().scan(task.policy_of(params), key, collect=before)
    add = lambda rows, last: jnp.concatenate([rows, last[None]])
    looks, returns = jax.tree.map(add, rows, seen(end))
    return _Frames(looks, returns, end.length)


def _check_not_traced(*trees: Any) -> None:
    # Under `jit` a new array is traced, and under `vmap` some argument.
    if any(isinstance(x, Tracer) for x in [*jax.tree.leaves(trees), jnp.zeros(())]):
        raise RuntimeError(
            "`render` writes a file, but is being traced by `jit`, `vmap` or `grad`. "
            "Call it outside of them; it compiles the episode itself."
        )
