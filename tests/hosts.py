"""Two processes that train together, which tests start, signal and kill."""

import pathlib
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from .helpers import ROOT, environment


class Pair:
    """Two processes of `tests.hosts_run`, which are killed in the end.

    **Arguments:**

    - `folder`: where they write, and where their output goes.
    - `cases`: the names of what they run, one after another.
    - `more`: Python keywords of `rx.initialize_hosts`.
    - `numbers`: which of the two are started.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *cases: str,
        more: str = "",
        numbers: tuple[int, ...] = (0, 1),
    ):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = str(free.getsockname()[1])
        self.outputs = [folder / f"output.{number}" for number in (0, 1)]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        for number in numbers:
            arguments = str(number), port, str(folder), ",".join(cases), more
            # Imported, for the name of a task's module is a part of a checkpoint.
            run = "from tests.hosts_run import main; main()"
            command = [sys.executable, "-c", run, *arguments]
            with self.outputs[number].open("wb") as output:
                self.processes[number] = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment(),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def codes(self, seconds: float) -> list[int]:
        """Wait for all processes, at most so long, and return their exit codes."""
        until = time.monotonic() + seconds
        return [
            process.wait(max(0.1, until - time.monotonic()))
            for process in self.processes.values()
        ]

    def signal(self, number: int, what: int) -> None:
        """Send a signal to a process."""
        self.processes[number].send_signal(what)

    def wait_for(self, pattern: str, count: int = 1, seconds: float = 180) -> None:
        """Wait until the folder has so many files of a pattern."""
        until = time.monotonic() + seconds
        while len(list(self.folder.glob(pattern))) < count:
            running = all(one.poll() is None for one in self.processes.values())
            if time.monotonic() > until or not running:
                raise AssertionError(f"no {pattern}: {self.output(0)} {self.output(1)}")
            time.sleep(0.005)

    def output(self, number: int) -> str:
        """Return what a process has printed."""
        return self.outputs[number].read_text(errors="replace")
