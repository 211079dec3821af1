"""Episodes of gymnax environments as GIFs, by gymnax's own visualiser."""

import contextlib
import importlib.util
import io
import os
import warnings
from collections.abc import Generator
from typing import Any

import numpy as np

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
    """Draw each state once. matplotlib's own animations draw each three times."""
    import PIL.Image
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    frames = list[PIL.Image.Image]()
    with _quietly():
        import matplotlib.pyplot as plt
        from gymnax.visualize import Visualizer

        drawing: Any = Visualizer(env, params, states, returns)
        try:
            drawing.init()
            canvas = FigureCanvasAgg(drawing.fig)
            for i in range(len(states)):
                drawing.update(i)
                canvas.draw()
                image = PIL.Image.fromarray(np.asarray(canvas.buffer_rgba()))
                # The method takes a fifth of the time of Pillow's default.
                method = PIL.Image.Quantize.FASTOCTREE
                frames.append(image.convert("RGB").quantize(method=method))
        finally:
            plt.close(drawing.fig)
    file = io.BytesIO()
    first, *others = frames
    first.save(
        file,
        "gif",
        save_all=True,
        append_images=others,
        duration=drawing.interval,
        loop=0,
    )
    return file.getvalue()


@contextlib.contextmanager
def _quietly() -> Generator[None]:
    """The plotting libraries warn, and pygame looks for a screen and for speakers.

    Pygame is started anew for each frame. No driver has the name `none`, so that it
    opens no audio at all, which takes 2 ms instead of 30 with `dummy`.
    """
    drivers = {"SDL_AUDIODRIVER": "none", "SDL_VIDEODRIVER": "dummy"}
    before = {name: os.environ.get(name) for name in drivers}
    os.environ.update(drivers)
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
