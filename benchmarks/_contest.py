"""Trainings of several contestants, each in processes of its own.

Needs jax and nothing else, because it also runs where realax is not installed.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.random as jr


READY = "ready"


def serve(run: Callable[[Any], Any]) -> None:
    """Run `run` with the seed on each line that comes in.

    Prints the seconds that it took, and those of the processor.
    """
    print(READY, flush=True)
    for line in sys.stdin:
        start, processor = time.perf_counter(), time.process_time()
        jax.block_until_ready(run(jr.key(int(line))))
        taken = time.perf_counter() - start, time.process_time() - processor
        print(*taken, flush=True)


class Worker:
    """A process that serves trainings, once it is ready."""

    def __init__(self, command: list[Any]):
        environ = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        words = [str(word) for word in command]
        process: Any = subprocess.Popen(words, text=True, env=environ, **pipes)
        self.process = process
        # What it imports would take time from another that trains.
        while (line := process.stdout.readline()).strip() != READY:
            if not line:
                raise RuntimeError(f"{words} ended before it was ready.")

    def seconds(self, seed: int) -> tuple[float, float]:
        """Return the seconds of a training, and those of the processor."""
        print(seed, file=self.process.stdin, flush=True)
        wall, processor = map(float, self.process.stdout.readline().split())
        return wall, processor

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Measured(NamedTuple):
    """Seconds of the trainings of a contestant.

    - `compiling`: the median of first trainings less that of later ones.
    - `usual`: the median of later ones.
    - `processor`: the median of the processor's seconds of later ones.
    - `ratio`: the median of what each takes, in units of the first contestant's in the
        same round.
    """

    compiling: float
    usual: float
    processor: float
    ratio: float


def contest(
    commands: dict[str, list[Any]], rounds: int, starts: int
) -> dict[str, Measured]:
    """Measure trainings of each contestant, by alternation.

    **Arguments:**

    - `commands`: those of their workers, by name.
    - `rounds`: the number of later trainings of each.
    - `starts`: the number of processes of each whose first training is timed.
    """
    first: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(starts - 1):
        for name, command in commands.items():
            worker = Worker(command)
            first[name].append(worker.seconds(0)[0])
            worker.close()
    workers = {name: Worker(command) for name, command in commands.items()}
    for name, worker in workers.items():
        first[name].append(worker.seconds(0)[0])
    later: dict[str, list[float]] = {name: [] for name in commands}
    processor: dict[str, list[float]] = {name: [] for name in commands}
    for round in range(rounds):
        for name, worker in workers.items():
            wall, of_processor = worker.seconds(round + 1)
            later[name].append(wall)
            processor[name].append(of_processor)
    for worker in workers.values():
        worker.close()
    base, median = later[next(iter(commands))], statistics.median
    return {
        name: Measured(
            compiling=median(first[name]) - median(times),
            usual=median(times),
            processor=median(processor[name]),
            ratio=median(
                theirs / ours for ours, theirs in zip(base, times, strict=True)
            ),
        )
        for name, times in later.items()
    }
