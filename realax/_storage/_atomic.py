"""Atomic writing: files that are the old or the complete new ones, and their folders.

Errors name the user's argument and say what to do.
"""

import contextlib
import errno
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterable
from typing import Any


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
        case FileNotFoundError():
            remedy = "No file can be made in that folder: use one on a disk"
        case _:
            remedy = "Make room"
    return OSError(
        error.errno,
        f"`{argument}` could not be written ({error.strerror}). {remedy}, or choose "
        f"another `{argument}`. The path is",
        str(path),
    )
