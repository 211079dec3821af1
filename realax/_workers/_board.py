"""A small table in shared memory, where workers write which job is in progress."""

import mmap
import os
import pathlib
import struct
import time
from typing import NamedTuple, final

from .._check import no_type_check
from ._jobs import BETWEEN


_ENTRY = struct.Struct("=qqd")
# More entries than batches run at a time, so that a worker that is being ended writes
# into one that no one reads.
_ENTRIES = 8


class Entry(NamedTuple):
    """What a worker wrote about a batch.

    - `process`: the worker, 0 if none has begun.
    - `job`: the job in progress, or `BETWEEN`.
    - `since`: when it began.
    """

    process: int
    job: int
    since: float

    @property
    def begun(self) -> bool:
        """True if a worker has begun the batch."""
        return self.process != 0

    @property
    def culprit(self) -> int | None:
        """The job in progress, if there is one."""
        return self.job if self.begun and self.job != BETWEEN else None


@final
class Board:
    """Which job of each batch is in progress, and since when.

    The time is that of `time.monotonic`, which all processes of a machine share.

    **Arguments:**

    - `file`: the file that all processes map.
    """

    def __init__(self, file: pathlib.Path):
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), 0)
        self._size = len(self._memory) // _ENTRY.size

    @classmethod
    def new(cls, file: pathlib.Path, workers: int) -> "Board":
        """Make the table of some workers."""
        file.write_bytes(bytes(_ENTRY.size * _ENTRIES * workers))
        return cls(file)

    @no_type_check
    def clear(self, batch: int) -> None:
        """Record that no worker has begun a batch."""
        _ENTRY.pack_into(self._memory, self._offset(batch), 0, BETWEEN, 0.0)

    @no_type_check
    def begin(self, batch: int, job: int) -> None:
        """Record that a job begins now.

        **Arguments:**

        - `batch`: the number of the batch.
        - `job`: the number of the job in it, or `BETWEEN`.
        """
        entry = os.getpid(), job, time.monotonic()
        _ENTRY.pack_into(self._memory, self._offset(batch), *entry)

    @no_type_check
    def read(self, batch: int) -> Entry:
        """Return what was written last about a batch."""
        place = self._offset(batch)
        entry = _ENTRY.unpack_from(self._memory, place)
        while entry != (again := _ENTRY.unpack_from(self._memory, place)):
            entry = again  # it was being written
        return Entry(*entry)

    @no_type_check
    def _offset(self, batch: int) -> int:
        return batch % self._size * _ENTRY.size
