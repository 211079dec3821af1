"""Episodes of gymnax environments as GIFs, by gymnax's own visualiser."""

import contextlib
import importlib.util
import io
import os
import pathlib
import tempfile
import warnings
from collections.abc import Generator
from typing import Any

from .._types import Tree
from ._render import Artist


# Drawn by gymnasium, with pygame.
_CLASSIC = (
    "Acrobot-v1",
    "CartPole-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
)
DRAWN = (
    *_CLASSIC,
    "Asterix-MinAtar",
    "Breakout-MinAtar",
    "Catch-bsuite",
    "FourRooms-misc",
    "Freeway-MinAtar",
    "MetaMaze-misc",
    "PointRobot-misc",
    "Pong-misc",
    "Seaquest-MinAtar",
    "SpaceInvaders-MinAtar",
)


def gymnax_artist(env: Any, params: Tree) -> Artist:
    """The drawer of a gymnax environment.

    **Raises:** `ValueError` for one that gymnax cannot draw, `ImportError` where pygame
    is missing.
    """
    name = str(getattr(env, "name", type(env).__name__))
    if name not in DRAWN:
        raise ValueError(
            f"`render` cannot draw {name!r}: gymnax's visualiser draws "
            f"{', '.join(DRAWN)}."
        )
    if name in _CLASSIC and importlib.util.find_spec("pygame") is None:
        raise ImportError(
            f"drawing {name!r} needs pygame: `pip install 'realax[render]'` brings it."
        )
    return Artist(".gif", _suite_state, lambda *seen: _gif(env, params, *seen))


def _suite_state(state: Any) -> Tree:
    return state["env"]


def _gif(env: Any, params: Tree, states: list[Tree], returns: Any) -> bytes:
    with _quietly(), tempfile.TemporaryDirectory() as folder:
        from gymnax.visualize import Visualizer

        file = pathlib.Path(folder, "episode.gif")
        Visualizer(env, params, states, returns).animate(str(file))
        return file.read_bytes()


@contextlib.contextmanager
def _quietly() -> Generator[None]:
    """The plotting libraries warn, and pygame looks for a screen and for speakers.

    For each frame pygame is started anew, which takes four times as long with them.
    """
    drivers = ("SDL_AUDIODRIVER", "SDL_VIDEODRIVER")
    before = {name: os.environ.get(name) for name in drivers}
    os.environ.update(dict.fromkeys(drivers, "dummy"))
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
