"""Trees of arrays in files: never half written, never silently wrong.

A file is a line of its own kind, a SHA-256 of all that follows, a manifest in JSON
(each array's path in its tree, shape, dtype, place) and the arrays' bytes.
"""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import ml_dtypes
import numpy as np

from .._types import Tree


_KIND = b"realax arrays 1\n"
_DIGEST = 64
_LENGTH = 8


class CorruptFileError(ValueError):
    """A file that is not what was written: truncated, altered, or of another kind."""


class MisfitError(ValueError):
    """A file whose arrays are not those that are asked for."""


class Stored:
    """What a file holds.

    - `meta`: what was written beside the arrays; under `"holds"`, if it is there, in
        words what they are.
    - `leaves`: for each array's name and path its entry in the manifest.
    """

    meta: dict[str, Any]
    leaves: dict[str, dict[str, Any]]

    def __init__(self, path: pathlib.Path, manifest: dict[str, Any], body: memoryview):
        self._path = path
        self._body = body
        self.meta = manifest["meta"]
        self.leaves = {leaf["path"]: leaf for leaf in manifest["leaves"]}

    def fill(self, name: str, like: Tree) -> Tree:
        """The tree `like` with the arrays that were written under `name`.

        What is not an array in `like` stays. Arrays that `like` has no place for are
        left out.

        **Raises:** `MisfitError` that lists every array that differs, by its path.
        """
        leaves, treedef = jax.tree_util.tree_flatten_with_path(like)
        wrong = list[str]()
        values = list[Any]()
        for path, leaf in leaves:
            if not _is_array(leaf):
                values.append(leaf)
                continue
            key = name + jax.tree_util.keystr(path)
            found, wanted = self.leaves.get(key), f"{leaf.dtype}{list(leaf.shape)}"
            if found is None:
                wrong.append(f"`{key}`: {wanted} is asked for, and none is in the file")
            elif (text := f"{found['dtype']}{found['shape']}") != wanted:
                wrong.append(f"`{key}`: {wanted} is asked for, {text} is in the file")
            else:
                values.append(self._value(found, leaf))
        if wrong:
            holds = self.meta.get("holds")
            what = "" if holds is None else f" It holds: {holds}."
            raise MisfitError(
                f"{self._path} does not fit.{what} {len(wrong)} of {len(leaves)} "
                f"leaves differ: {'; '.join(wrong)}. Give the tree that was saved: of "
                "the same model, trainer and sizes."
            )
        return jax.tree.unflatten(treedef, values)

    def _value(self, leaf: dict[str, Any], like: Any) -> Any:
        data = self._body[leaf["start"] : leaf["start"] + leaf["bytes"]]
        # A copy, because arrays lie side by side in the file, whatever their alignment.
        array = np.ndarray(leaf["data_shape"], _dtype(leaf["stored"]), data).copy()
        if isinstance(like, np.ndarray):
            return array
        if isinstance(like, np.generic):
            return array[()]
        # Where `like` lies and bound to it as `like` is, or the next step would be
        # compiled once more, or refused for arrays on different devices.
        place = like.sharding if isinstance(like, jax.Array) else None
        device = None if place is None else next(iter(place.device_set))
        with jax.default_device(device):
            value = jnp.asarray(array)
        if leaf["key"] is not None:
            value = jr.wrap_key_data(value, impl=leaf["key"])
        if isinstance(like, jax.Array) and like.committed:
            return jax.device_put(value, like.sharding)
        return value


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct | np.generic)


def write(
    path: pathlib.Path, trees: Mapping[str, Tree], meta: Mapping[str, Any]
) -> None:
    """Write the arrays of `trees` so that `path` is the old file or all of the new one.

    **Raises:** `OSError` where that can not be done; then `path` is as it was.
    """
    leaves, parts, start = list[dict[str, Any]](), list[memoryview](), 0
    for name, tree in trees.items():
        for where, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if not _is_array(leaf):
                continue
            if leaf.dtype == object or getattr(leaf.dtype, "names", None) is not None:
                raise TypeError(
                    f"`{name}{jax.tree_util.keystr(where)}` holds {leaf.dtype}, which "
                    "is no number. Leave it out, or turn it into numbers."
                )
            key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            data = np.asarray(jr.key_data(leaf) if key else leaf)
            part = memoryview(np.ascontiguousarray(data).reshape(-1).view(np.uint8))
            leaves.append(
                {
                    "path": name + jax.tree_util.keystr(where),
                    "shape": list(leaf.shape),
                    "dtype": str(leaf.dtype),
                    "key": str(jr.key_impl(leaf)) if key else None,
                    "stored": str(data.dtype),
                    "data_shape": list(data.shape),
                    "start": start,
                    "bytes": part.nbytes,
                }
            )
            parts.append(part)
            start += part.nbytes
    manifest = json.dumps({"meta": dict(meta), "leaves": leaves}).encode()
    chunks = [len(manifest).to_bytes(_LENGTH, "little"), manifest, *parts]
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    replace(path, [_KIND, digest.hexdigest().encode(), *chunks])


def read(path: pathlib.Path) -> Stored:
    """What is in a file.

    **Raises:** `CorruptFileError` where a single bit is not as it was written.
    """
    data = memoryview(path.read_bytes())
    head, rest = len(_KIND), len(_KIND) + _DIGEST
    if bytes(data[:head]) != _KIND:
        raise CorruptFileError(
            f"{path} is not a file of realax, or its first bytes were altered."
        )
    if hashlib.sha256(data[rest:]).hexdigest().encode() != bytes(data[head:rest]):
        raise CorruptFileError(
            f"{path} was truncated or altered: its SHA-256 is not the one it was "
            "written with."
        )
    length = int.from_bytes(data[rest : rest + _LENGTH], "little")
    body = rest + _LENGTH + length
    return Stored(path, json.loads(bytes(data[rest + _LENGTH : body])), data[body:])


def replace(path: pathlib.Path, chunks: Iterable[Any]) -> None:
    """Write bytes so that `path` is the old file or all of the new one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(OSError):  # there may be no old one
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: pathlib.Path) -> None:
    """Make the names in a folder last through a power cut, where a system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_unfinished(folder: pathlib.Path, pattern: str) -> None:
    """Remove what processes left that were killed while they wrote.

    For the owner of those files only: nothing tells them from what a living process is
    writing.
    """
    for path in folder.glob(f".{pattern}.*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def make_folder(folder: pathlib.Path, argument: str) -> None:
    """Make a folder where it is missing. **Raises:** `OSError`, as `cannot_write`."""
    effective = os.access in os.supports_effective_ids
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK, effective_ids=effective):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise cannot_write(error, argument, folder) from error


def cannot_write(error: OSError, argument: str, path: pathlib.Path) -> OSError:
    """`error` in words: which argument it comes from, and what to do."""
    match error:
        case PermissionError():
            remedy = "Get the right to write there"
        case FileExistsError() | NotADirectoryError():
            remedy = "A file is where a folder should be: move it away"
        case IsADirectoryError():
            remedy = "A folder is where a file should be: move it away"
        case _:
            remedy = "Make room"
    return OSError(
        error.errno,
        f"`{argument}` could not be written ({error.strerror}). {remedy}, or choose "
        f"another `{argument}`. The path is",
        str(path),
    )


def _dtype(name: str) -> Any:
    # numpy knows by name only those of ml_dtypes that were used before.
    return np.dtype(getattr(ml_dtypes, name, name))
