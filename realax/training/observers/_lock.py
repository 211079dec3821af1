"""One run owns the files that it writes."""

import contextlib
import errno
import json
import os
import pathlib
import socket

from filelock import FileLock, Timeout

from ..._errors import warn_user
from ..._storage._files import cannot_write


# What systems answer where a file system, such as some network folders, has no locks.
_NO_LOCKS = {
    errno.ENOSYS,
    errno.ENOLCK,
    errno.EOPNOTSUPP,
    getattr(errno, "ENOTSUP", errno.EOPNOTSUPP),  # another number on macOS
}


class Claim:
    """A lock of the operating system, which frees it when its owner dies.

    - `held`: whether there is one; not where the file system has no locks.
    """

    def __init__(self, lock: FileLock | None, owner: pathlib.Path):
        self._lock = lock
        self._owner = owner

    @property
    def held(self) -> bool:
        return self._lock is not None

    def release(self) -> None:
        """Let others have it."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with contextlib.suppress(OSError):
                self._owner.unlink()
            lock.release()


def claim(folder: pathlib.Path, name: str, what: str, argument: str) -> Claim:
    """Own something as long as this process lives, or until it is released.

    Of one process only one owner is let in too.

    **Arguments:**

    - `folder`, `name`: where the lock is to be: in the file `.<name>.lock`; who owns it
        is told in `.<name>.owner`.
    - `what`: what is owned, for messages, such as "the log runs/a.jsonl".
    - `argument`: by which the user chose it.

    **Raises:** `RuntimeError` that names the owner where there is one already;
    `OSError` where nothing can be written.
    """
    # Two files, because Windows lets nobody read a locked one.
    owner = folder / f".{name}.owner"
    path = folder / f".{name}.lock"
    lock = FileLock(path, blocking=False, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise RuntimeError(
            f"{what} belongs to a run that is going on: {_owner_in(owner)}. Wait until "
            f"that one has ended, or choose another `{argument}` for this one."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise cannot_write(error, argument, folder) from error
        warn_user(
            f"{what} can not be locked, because its file system has no locks "
            f"({error.strerror}). The run goes on; take care that no second one "
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
        return "another process, which has not said yet which one it is"
