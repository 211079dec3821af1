"""Files of arrays, written completely or not at all and verified when read.

A file holds a line that names the format, the SHA-256 of the rest, a manifest in JSON
(path, shape, dtype and offset of each array) and the bytes of the arrays.
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


_FORMAT = b"realax arrays 1\n"
_DIGEST_BYTES = 64
_LENGTH_BYTES = 8


class CorruptFileError(ValueError):
    """Error for a file that was truncated or altered, or has another format."""


class MisfitError(ValueError):
    """Error for a file whose arrays differ in path, shape or dtype from those given."""


class Stored:
    """The verified contents of a file.

    - `meta`: the metadata that was written with the arrays. Its entry `"holds"`, if
        present, describes them in words.
    - `leaves`: the manifest's entry for each array, by the array's name and path.
    """

    meta: dict[str, Any]
    leaves: dict[str, dict[str, Any]]

    def __init__(self, path: pathlib.Path, manifest: dict[str, Any], body: memoryview):
        self._path = path
        self._body = body
        self.meta = manifest["meta"]
        self.leaves = {leaf["path"]: leaf for leaf in manifest["leaves"]}

    def fill(self, name: str, like: Tree) -> Tree:
        """Return the tree `like` with the arrays that were written under `name`.

        Leaves of `like` that are not arrays stay. Arrays of the file that have no
        place in `like` are ignored.

        **Raises:** `MisfitError` that lists each array that differs by its path.
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
                wrong.append(f"`{key}`: expected {wanted}, but the file has none")
            elif (text := f"{found['dtype']}{found['shape']}") != wanted:
                wrong.append(f"`{key}`: expected {wanted}, but got {text}")
            else:
                values.append(self._value(found, leaf))
        if wrong:
            holds = self.meta.get("holds")
            contents = "" if holds is None else f" It holds: {holds}."
            raise MisfitError(
                f"{self._path} does not match the given tree.{contents} {len(wrong)} "
                f"of {len(leaves)} leaves differ: {'; '.join(wrong)}. Pass a tree of "
                "the same model, trainer and sizes as the one that was saved."
            )
        return jax.tree.unflatten(treedef, values)

    def _value(self, leaf: dict[str, Any], like: Any) -> Any:
        data = self._body[leaf["start"] : leaf["start"] + leaf["bytes"]]
        # The file does not align arrays, so each of them is copied.
        array = np.ndarray(leaf["data_shape"], _dtype(leaf["stored"]), data).copy()
        if isinstance(like, np.ndarray):
            return array
        if isinstance(like, np.generic):
            return array[()]
        # The array goes to the device of `like` and is committed to it if `like` is.
        # Otherwise jax would compile the next step again, or refuse it because its
        # arrays are on different devices.
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
    """Write the arrays of `trees` so that `path` is the old or the complete new file.

    **Raises:** `OSError` if the file cannot be written, and `TypeError` for an array of
    objects or records. `path` is then unchanged.
    """
    leaves, parts, start = list[dict[str, Any]](), list[memoryview](), 0
    for name, tree in trees.items():
        for where, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if not _is_array(leaf):
                continue
            if leaf.dtype == object or getattr(leaf.dtype, "names", None) is not None:
                raise TypeError(
                    f"`{name}{jax.tree_util.keystr(where)}` must be an array of "
                    f"numbers, but got dtype {leaf.dtype}. Leave it out or convert it "
                    "to numbers."
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
    chunks = [len(manifest).to_bytes(_LENGTH_BYTES, "little"), manifest, *parts]
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    replace(path, [_FORMAT, digest.hexdigest().encode(), *chunks])


def read(path: pathlib.Path) -> Stored:
    """Read a file and verify it.

    **Returns:** The contents of the file.

    **Raises:** `CorruptFileError` if a single bit differs from what was written.
    """
    data = memoryview(path.read_bytes())
    head, rest = len(_FORMAT), len(_FORMAT) + _DIGEST_BYTES
    if bytes(data[:head]) != _FORMAT:
        raise CorruptFileError(
            f"{path} is not a realax file, or its first bytes were altered."
        )
    if hashlib.sha256(data[rest:]).hexdigest().encode() != bytes(data[head:rest]):
        raise CorruptFileError(
            f"{path} was truncated or altered: its SHA-256 differs from the one "
            "written in it."
        )
    start = rest + _LENGTH_BYTES
    body = start + int.from_bytes(data[rest:start], "little")
    return Stored(path, json.loads(bytes(data[start:body])), data[body:])


def replace(path: pathlib.Path, chunks: Iterable[Any]) -> None:
    """Write bytes so that `path` is the old or the complete new file."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(OSError):  # there may be no old file
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: pathlib.Path) -> None:
    """Make the names in a folder survive a power cut, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_unfinished(folder: pathlib.Path, pattern: str) -> None:
    """Remove the temporary files of processes that were killed while writing.

    Only the owner of the files may call it, because the temporary files of a living
    process look the same.
    """
    for path in folder.glob(f".{pattern}.*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def make_folder(folder: pathlib.Path, argument: str) -> None:
    """Make a folder if it is missing.

    **Raises:** The `OSError` of `cannot_write` if that fails or writing is forbidden.
    """
    effective = os.access in os.supports_effective_ids
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK, effective_ids=effective):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise cannot_write(error, argument, folder) from error


def cannot_write(error: OSError, argument: str, path: pathlib.Path) -> OSError:
    """Return an `OSError` that names the argument and says what to do."""
    match error:
        case PermissionError():
            remedy = "Get permission to write there"
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
    # numpy finds a type of ml_dtypes by name only after its first use.
    return np.dtype(getattr(ml_dtypes, name, name))
