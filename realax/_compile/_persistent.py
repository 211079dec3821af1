"""XLA's cache of compiled programs on disk."""

import os
import pathlib
import sys

import jax

from .._arguments import arguments, optional, path as a_path


@arguments(folder=optional(a_path))
def enable_compilation_cache(folder: str | pathlib.Path | None = None) -> pathlib.Path:
    """Keep compiled programs on disk, so that later processes need not compile them.

    Call it once, before the first run. A program is compiled again if anything that it
    depends on has changed: the code, the shapes, jax or the flags of XLA.

    **Arguments:**

    - `folder`: the folder of the programs. `None` means the user's cache folder,
        `$XDG_CACHE_HOME/realax/xla`, usually `~/.cache/realax/xla`.

    **Returns:** The path of the folder.
    """
    path = _default_folder() if folder is None else pathlib.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path))
    # By default jax keeps only programs that take a second to compile. A run begins
    # with many smaller ones.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path


def _default_folder() -> pathlib.Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    else:
        base = os.environ.get("XDG_CACHE_HOME")
    return (
        pathlib.Path(base) if base else pathlib.Path.home() / ".cache"
    ) / "realax/xla"
