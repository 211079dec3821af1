"""Locks, by which one run owns the files that it writes."""

import contextlib
import errno
import json
import os
import pathlib
import socket

from filelock import FileLock, Timeout

from ..._errors import warn_user
from ..._storage._atomic import cannot_write


# The errors of file systems without locks, such as some network folders.
_NO_LOCKS = {
    errno.ENOSYS,
    errno.ENOLCK,
    errno.EOPNOTSUPP,
    getattr(errno, "ENOTSUP", errno.EOPNOTSUPP),  # another number on macOS
}


class Claim:
    """A lock of the operating system, which releases it when its owner dies.

    - `held`: whether it is locked; false if the file system has no locks.
    """

    def __init__(self, lock: FileLock | None, owner: pathlib.Path):
        self._lock = lock
        self._owner = owner

    @property
    def held(self) -> bool:
        """True if it is locked."""
        return self._lock is not None

    def release(self) -> None:
        """Release the lock."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with contextlib.suppress(OSError):
                self._owner.unlink()
            lock.release()


def claim(folder: pathlib.Path, name: str, what: str, argument: str) -> Claim:
    """Lock something until it is released or this process ends.

    A second claim in the same process is refused too.

    **Arguments:**

    - `folder`, `name`: the lock is the file `.<name>.lock` in this folder; the file
        `.<name>.owner` names its owner.
    - `what`: the thing that is locked, for messages, such as "the log runs/a.jsonl".
    - `argument`: the argument by which the user chose it.

    **Raises:** `RuntimeError` that names the owner if there is one already; `OSError`
    if nothing can be written.
    """
    # Two files, because on Windows nobody can read a locked one.
    owner = folder / f".{name}.owner"
    path = folder / f".{name}.lock"
    lock = FileLock(path, blocking=False, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        if not path.exists():  # `filelock` takes a file that cannot be made for a lock
            error = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            raise cannot_write(error, argument, folder) from None
        raise RuntimeError(
            f"{what} belongs to a run that is in progress: {_owner_in(owner)}. Wait "
            f"until it has ended, or choose another `{argument}` for this one."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise cannot_write(error, argument, folder) from error
        warn_user(
            f"{what} cannot be locked, because its file system has no locks "
            f"({error.strerror}). The run continues; make sure that no second run "
            "writes there."
        )
        return Claim(None, owner)
    try:
        now = {"process": os.getpid(), "host": socket.gethostname()}
        owner.write_text(json.dumps(now))
    except OSError as error:
        lock.release()
        raise cannot_write(error, argument, folder) from error
    return Claim(lock, owner)


def _owner_in(path: pathlib.Path) -> str:
    try:
        found = json.loads(path.read_text())
        return f"process {found['process']} on host {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process, whose number is not known yet"
