"""A temporary folder that a later process removes if its own was killed."""

import contextlib
import pathlib
import shutil
import tempfile
from typing import final

import filelock


_PREFIX = "realax-workers-"


@final
class Folder:
    """A temporary folder, whose lock says that it is in use.

    - `path`: the folder.

    A killed process leaves its folder, but not the lock, to the next one that makes a
    folder, which removes it. Locks are seen by containers that share the folder too.
    """

    def __init__(self) -> None:
        parent = pathlib.Path(tempfile.gettempdir())
        for old in parent.glob(f"{_PREFIX}*"):
            _remove_unused(old)
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = filelock.FileLock(self.path / "lock", thread_local=False)
        self._lock.acquire()

    def remove(self) -> None:
        """Remove the folder."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def _remove_unused(folder: pathlib.Path) -> None:
    file = folder / "lock"
    with contextlib.suppress(OSError):  # of another user, or removed meanwhile
        if not file.exists():  # being made, or no folder of ours
            return
        lock = filelock.FileLock(file, thread_local=False)
        with contextlib.suppress(filelock.Timeout), lock.acquire(timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
