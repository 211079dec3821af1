"""A small table in shared memory, where workers write which job is in progress."""

import mmap
import pathlib
import struct
import time
from typing import final

from .._check import no_type_check


_ENTRY = struct.Struct("=qd")
# More entries than batches run at a time, so that a worker that is being ended writes
# into one that no one reads.
_ENTRIES = 8


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
        """Record that no job of a batch has begun."""
        _ENTRY.pack_into(self._memory, self._offset(batch), 0, 0.0)

    @no_type_check
    def begin(self, batch: int, job: int) -> None:
        """Record that a job begins now.

        **Arguments:**

        - `batch`: the number of the batch.
        - `job`: the number of the job in it; -1 if none is in progress.
        """
        if job < 0:
            self.clear(batch)
            return
        _ENTRY.pack_into(self._memory, self._offset(batch), job, time.monotonic())

    @no_type_check
    def read(self, batch: int) -> tuple[int, float]:
        """Return the job in progress, and the time when it began; 0 if none did."""
        return _ENTRY.unpack_from(self._memory, self._offset(batch))

    @no_type_check
    def _offset(self, batch: int) -> int:
        return batch % self._size * _ENTRY.size
