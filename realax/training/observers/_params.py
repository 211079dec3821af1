"""Files of parameters."""

import pathlib
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..._arguments import arguments, path as path_
from ..._storage._atomic import cannot_write, make_folder
from ..._storage._files import Stored, read, write
from ..._types import Tree
from ...policies import NormalizedPolicy, ObsStats


@arguments(path=path_)
def save_params(path: str | pathlib.Path, params: Tree) -> None:
    """Write the arrays of a tree or model to a file, completely or not at all.

    The file also describes the types in the tree, for error messages.

    **Arguments:**

    - `path`: the file; its folder is made if missing.
    - `params`: any pytree. Leaves that are not arrays are not written.

    **Raises:** `OSError` if the file cannot be written.
    """
    store_params(pathlib.Path(path), params, "path")


def store_params(path: pathlib.Path, params: Tree, argument: str, **more: Any) -> None:
    """Write as `save_params` to a path that the user gave as `argument`.

    **Arguments:**

    - `more`: further metadata, in values that JSON can express.
    """
    make_folder(path.parent, argument)
    meta = {
        "holds": _describe(params),
        "normalized": _normalized_paths(params, "params"),
        **more,
    }
    try:
        write(path, {"params": params}, meta)
    except OSError as error:
        raise cannot_write(error, argument, path) from error


@arguments(path=path_)
def load_params[P](path: str | pathlib.Path, like: P) -> P:
    """Read a file of `save_params` or of a `Logger`.

    **Arguments:**

    - `path`: the file.
    - `like`: a tree or model with arrays of the same shapes and dtypes, such as the
        `params_like` of the run; its other leaves are kept. The arrays are put on the
        devices of those in `like`.

    **Returns:** `like` with the arrays from the file. If the file holds a
    `NormalizedPolicy` and `like` is the plain policy, a `NormalizedPolicy` around it.

    **Raises:** `FileNotFoundError` if there is no file; `CorruptFileError` if it was
    altered; `MisfitError` that describes the contents of the file, and lists the arrays
    that differ, by path, with their shapes.
    """
    stored = read(pathlib.Path(path))
    wrapped = _wrap_policies(like, "params", stored, stored.meta.get("normalized", ()))
    return stored.fill("params", wrapped)


def _children(tree: Any) -> tuple[list[tuple[str, Any]], Any]:
    """Return the children of the root of a tree with their paths, and its structure."""
    pairs, treedef = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda node: node is not tree
    )
    return [(jax.tree_util.keystr(path), child) for path, child in pairs], treedef


def _normalized_paths(tree: Any, path: str) -> list[str]:
    """Return the paths of all policies that normalise observations."""
    if isinstance(tree, NormalizedPolicy):
        return [path]
    children, treedef = _children(tree)
    if jax.tree_util.treedef_is_leaf(treedef):
        return []
    return [
        one for name, child in children for one in _normalized_paths(child, path + name)
    ]


def _wrap_policies(tree: Any, path: str, stored: Stored, normalized: list[str]) -> Any:
    """Return `tree` with its policies at the paths `normalized` wrapped."""
    if path in normalized:
        if isinstance(tree, NormalizedPolicy):
            return tree
        like = (stored.leaves[f"{path}.stats.{n}"] for n in ("count", "mean", "spread"))
        stats = ObsStats(*(jnp.zeros(one["shape"], one["dtype"]) for one in like))
        return NormalizedPolicy(tree, stats)
    children, treedef = _children(tree)
    if jax.tree_util.treedef_is_leaf(treedef) or not normalized:
        return tree
    return jax.tree.unflatten(
        treedef,
        [
            _wrap_policies(child, path + name, stored, normalized)
            for name, child in children
        ],
    )


def _describe(tree: Any) -> str:
    """Return a description of a tree."""
    if eqx.is_array(tree):
        return f"{tree.dtype}{list(tree.shape)}"
    if isinstance(tree, NormalizedPolicy):
        return f"NormalizedPolicy of {_describe(tree.policy)}"
    items = list[str]()
    if isinstance(tree, Mapping):
        items = [f"{key!r}: {_describe(item)}" for key, item in tree.items()]
    elif isinstance(tree, list | tuple):
        items = [_describe(item) for item in tree]
    name = type(tree).__name__
    if not items:
        return name
    return f"{name} of {', '.join(items[:5])}{', ...' if len(items) > 5 else ''}"
