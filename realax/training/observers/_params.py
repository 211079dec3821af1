"""Parameters in a file of their own."""

import pathlib
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..._arguments import arguments, path as path_
from ..._storage._files import Stored, cannot_write, make_folder, read, write
from ..._types import Tree
from ...policies import NormalizedPolicy, ObsStats


@arguments(path=path_)
def save_params(path: str | pathlib.Path, params: Tree) -> None:
    """Write the arrays of a tree or model, all or nothing.

    The file also says of what kinds the tree is, for messages.

    **Arguments:**

    - `path`: the file; its folder is made where it is missing.
    - `params`: any pytree. What is not an array is not written.

    **Raises:** `OSError` where nothing can be written.
    """
    store_params(pathlib.Path(path), params, "path")


def store_params(path: pathlib.Path, params: Tree, argument: str) -> None:
    """`save_params`, to a place that the user gave as `argument`."""
    make_folder(path.parent, argument)
    meta = {"holds": _holds(params), "normalized": _normalized(params, "params")}
    try:
        write(path, {"params": params}, meta)
    except OSError as error:
        raise cannot_write(error, argument, path) from error


@arguments(path=path_)
def load_params[P](path: str | pathlib.Path, like: P) -> P:
    """Read what `save_params` or a `Logger` wrote.

    **Arguments:**

    - `path`: the file.
    - `like`: a tree or model with arrays of the same shapes and dtypes, such as the
        `params_like` of the run; the rest of it is kept. What is read lies on the
        devices on which it lies.

    **Returns:** `like` with the arrays from the file. Where the file holds a
    `NormalizedPolicy` and `like` the plain policy, a `NormalizedPolicy` around it.

    **Raises:** `FileNotFoundError`; `CorruptFileError` where the file is not as it was
    written; `MisfitError` that says what the file holds, and lists the arrays that
    differ, by path, with shapes.
    """
    stored = read(pathlib.Path(path))
    wrapped = _wrapped(like, "params", stored, stored.meta.get("normalized", ()))
    return stored.fill("params", wrapped)


def _children(tree: Any) -> tuple[list[tuple[str, Any]], Any]:
    """What lies right below the top of a tree, by path."""
    pairs, treedef = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda node: node is not tree
    )
    return [(jax.tree_util.keystr(path), child) for path, child in pairs], treedef


def _normalized(tree: Any, path: str) -> list[str]:
    """The paths of all policies that normalise what they observe."""
    if isinstance(tree, NormalizedPolicy):
        return [path]
    children, treedef = _children(tree)
    if jax.tree_util.treedef_is_leaf(treedef):
        return []
    return [one for name, child in children for one in _normalized(child, path + name)]


def _wrapped(tree: Any, path: str, stored: Stored, normalized: list[str]) -> Any:
    """`tree` with policies as the file has them: normalising where they were."""
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
        [_wrapped(child, path + name, stored, normalized) for name, child in children],
    )


def _holds(tree: Any) -> str:
    """What a tree is, in words."""
    if eqx.is_array(tree):
        return f"{tree.dtype}{list(tree.shape)}"
    if isinstance(tree, NormalizedPolicy):
        return f"NormalizedPolicy of {_holds(tree.policy)}"
    items = list[str]()
    if isinstance(tree, Mapping):
        items = [f"{key!r}: {_holds(item)}" for key, item in tree.items()]
    elif isinstance(tree, list | tuple):
        items = [_holds(item) for item in tree]
    name = type(tree).__name__
    if not items:
        return name
    return f"{name} of {', '.join(items[:5])}{', ...' if len(items) > 5 else ''}"
