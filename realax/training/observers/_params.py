"""Parameters in a file of their own."""

import pathlib

from ..._store import read, write
from ..._types import Tree


def save_params(path: str | pathlib.Path, params: Tree) -> None:
    """Write the arrays of a tree or model, all or nothing.

    **Arguments:**

    - `path`: the file; its folder is made where it is missing.
    - `params`: any pytree. What is not an array is not written.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, {"params": params}, {})


def load_params[P](path: str | pathlib.Path, like: P) -> P:
    """Read what `save_params` or a `Logger` wrote.

    **Arguments:**

    - `path`: the file.
    - `like`: a tree or model with arrays of the same shapes and dtypes; the rest of it
        is kept.

    **Returns:** `like` with the arrays from the file.

    **Raises:** `CorruptFileError` where the file is not as it was written; `ValueError`
    that lists the arrays that differ, by path, with shapes.
    """
    stored = read(pathlib.Path(path))
    return stored.fill("params", like)
