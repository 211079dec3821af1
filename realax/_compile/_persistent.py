"""XLA's compiled programs, kept for the next process."""

import os
import pathlib
import sys

import jax


def enable_compilation_cache(folder: str | pathlib.Path | None = None) -> pathlib.Path:
    """Keep compiled programs on disk, so that the next process need not compile them.

    Call it once, before the first run. A program is compiled anew where anything that
    it depends on has changed: the code, the shapes, jax, XLA's flags.

    **Arguments:**

    - `folder`: where to keep them; a folder of the user's own if `None`
        (`$XDG_CACHE_HOME/realax/xla`, usually `~/.cache/realax/xla`).

    **Returns:** The folder.
    """
    path = _default() if folder is None else pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path))
    # By default only what took a second is kept; a run begins with many small programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path


def _default() -> pathlib.Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    else:
        base = os.environ.get("XDG_CACHE_HOME")
    return (
        pathlib.Path(base) if base else pathlib.Path.home() / ".cache"
    ) / "realax/xla"
