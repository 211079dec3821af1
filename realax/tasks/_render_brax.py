"""Episodes of brax environments: brax's own viewer in one page that needs no network.

brax's own page loads three.js and the viewer's other parts from the network. Here the
page holds all of them: the viewer of the installed brax; three.js of the installed
trimesh, which brax requires; and in `_brax_page.html` a panel and camera controls.
"""

import base64
import importlib.resources
import io
import re
import types
import zipfile
import zlib
from typing import Any

from .._types import Tree
from ._render import Artist


def brax_artist(env: Any) -> Artist:
    """The drawer of a brax environment.

    **Raises:** `ValueError` for an environment without a body.
    """
    body = getattr(env, "unwrapped", env)
    if getattr(body, "sys", None) is None:
        raise ValueError(
            f"`render` draws the bodies of brax environments, but {type(body).__name__}"
            " has none. Derive it from `brax.envs.PipelineEnv`, with a system."
        )
    return Artist(".html", _links, lambda links, _: _page(body, links))


def _links(state: Any) -> Tree:
    """The positions and rotations of all links."""
    return state.pipeline_state.x


def _page(env: Any, links: list[Tree]) -> bytes:
    from brax.io import json

    system = env.sys.tree_replace({"opt.timestep": env.dt})  # the time between frames
    episode = json.dumps(system, [types.SimpleNamespace(x=x) for x in links])
    page = importlib.resources.files(__package__).joinpath("_brax_page.html")
    parts = {
        "title": type(env).__name__,
        "three": _three(),
        "viewer": _viewer(),
        "episode": base64.b64encode(zlib.compress(episode.encode(), 9)).decode(),
    }
    fill = lambda match: parts[match[1]]
    return re.sub(r"\{\{ (\w+) \}\}", fill, page.read_text("utf-8")).encode()


def _viewer() -> str:
    """brax's viewer, whose files import one another, as one module."""
    folder = importlib.resources.files("brax").joinpath("visualizer", "js")
    names = ("selector", "system", "animator", "viewer")
    files = [folder.joinpath(f"{name}.js").read_text("utf-8") for name in names]
    return re.sub(r"(?m)^(import|export) [^;]*;$", "", "\n".join(files))


def _three() -> str:
    """three.js and its licence, out of the page on which trimesh shows its meshes.

    **Raises:** `ImportError` where trimesh has no such page.
    """
    file = importlib.resources.files("trimesh").joinpath(
        "resources", "templates", "viewer.zip"
    )
    with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive:
        page = archive.read("viewer.html.template").decode()
    licence = r"/\*\*\s+\* @license\s+\* Copyright [^*]*Three\.js Authors.*?\*/"
    found = re.search(licence + r"\n[^\n]+", page, re.DOTALL)
    if found is None:
        raise ImportError(
            "`render` takes three.js from the package trimesh, but the installed "
            "version has none. Install one that has: `pip install 'trimesh==5.2.0'`."
        )
    return found[0]
