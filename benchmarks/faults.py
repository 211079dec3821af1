"""Kills a run, and a process that saves, many times, and compares what is left.

`python benchmarks/faults.py [KILLS]`, by default 20 of each kind. A logged and
checkpointed evolution is killed at random moments and started again; it must end with
the same state and log, byte for byte, as one that was left alone. A process that saves
40 MB again and again is killed; it must leave one whole file. Prints a row for each
kind, and ends with an error where something differs. Takes about five minutes on two
cores.
"""

import pathlib
import random
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

import realax as rx


ROOT = pathlib.Path(__file__).parent.parent
# More than the run can do between its kills.
STEPS_PER_KILL = 7500
SIZE = 10_000_000
SAVE = """
import sys, numpy as np, realax as rx
x = np.ones(int(sys.argv[2]), np.float32)
for i in range(10**6):
    rx.save_params(sys.argv[1], {"x": x * i})
    print(i, flush=True)
"""


def evolution(folder: pathlib.Path, steps: int) -> Any:
    """Start the evolution that the tests interrupt too."""
    command = [sys.executable, "-m", "tests.worker", str(folder), str(steps)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)


def rows(folder: pathlib.Path) -> int:
    """Count the lines of the log."""
    log = folder / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def wait_for_rows(process: Any, folder: pathlib.Path) -> None:
    """Wait until the log grows: a kill while the run compiles proves nothing."""
    before = rows(folder)
    # A restored run first drops rows, then adds some.
    while process.poll() is None and (now := rows(folder)) <= before:
        before = min(before, now)
        time.sleep(0.01)


def finish(folder: pathlib.Path, steps: int) -> tuple[bytes, bytes]:
    """Run to the end: the final state's file and the log."""
    if evolution(folder, steps).wait():
        sys.exit("the evolution failed")
    return (folder / "final").read_bytes(), (folder / "log.jsonl").read_bytes()


def kill_runs(folder: pathlib.Path, kills: int) -> str:
    """Kill an evolution again and again: what became of it."""
    steps, generator = STEPS_PER_KILL * kills, random.Random(0)
    expected = finish(folder / "a", steps)
    for _ in range(kills):
        process = evolution(folder / "b", steps)
        wait_for_rows(process, folder / "b")
        time.sleep(generator.uniform(0, 0.4))
        if process.poll() is not None:
            sys.exit("the evolution ended before its last kill: raise STEPS_PER_KILL")
        process.kill()
        process.wait()
    reached = rows(folder / "b")
    if finish(folder / "b", steps) != expected:
        sys.exit("a killed evolution ended with another state or log")
    return f"after the last at step {reached} of {steps}; state and log are the same"


def kill_saves(folder: pathlib.Path, kills: int) -> str:
    """Kill a process that saves, again and again: what became of its file."""
    file, generator, unfinished = folder / "file", random.Random(1), 0
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE, str(file), str(SIZE)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(generator.uniform(0, 0.2))
        process.kill()
        process.communicate()
        for path in folder.glob(".file.*"):
            unfinished += 1
            path.unlink()
        loaded = rx.load_params(file, {"x": np.ones(SIZE, np.float32)})
        if len(np.unique(loaded["x"])) != 1:
            sys.exit("a file is a mixture of two saves")
    return f"{unfinished} inside a save; each file was whole"


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print("| killed | kills | result |")
    print("| --- | --- | --- |", flush=True)
    for what, kill in ("evolution", kill_runs), ("saves", kill_saves):
        with tempfile.TemporaryDirectory() as folder:
            print(f"| {what} | {kills} | {kill(pathlib.Path(folder), kills)} |")


if __name__ == "__main__":
    main()
