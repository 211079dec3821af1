"""Kills one of two processes of a run, again and again, and compares what is left.

    python -m benchmarks.hosts_faults [KILLS]

A logged and checkpointed evolution on two processes is killed at random moments, a
quarter of them while process 0 writes a checkpoint, and started again. Prints, for each
kill, the seconds until the other process is gone (goal: 15). The end, on two processes
and on one with two devices, must be the bits of an uninterrupted run, and so must the
log. Takes about five minutes on two cores with 20 kills.
"""

import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

import equinox as eqx
import jax
import numpy as np

import realax as rx
from tests import hosts_run
from tests.helpers import same
from tests.hosts import Pair


def kill(folder: pathlib.Path, number: int, saving: bool) -> tuple[float, bool]:
    """Start the run, and kill a process of it.

    **Returns:** The seconds until the other one is gone, and whether a checkpoint was
    being written.
    """
    with Pair(folder, "heavy", more="steps=100_000") as pair:
        before = {path.name for path in (folder / "long").glob("*.ckpt")}
        until = time.monotonic() + 60
        while {path.name for path in (folder / "long").glob("*.ckpt")} == before:
            if time.monotonic() > until:
                raise RuntimeError(pair.output(0) + pair.output(1))
            time.sleep(0.005)
        if saving:
            until = time.monotonic() + 5
            while not unfinished(folder) and time.monotonic() < until:
                pass
        else:
            time.sleep(random.uniform(0.0, 0.5))
        pair.signal(number, signal.SIGKILL)
        begin = time.monotonic()
        pair.processes[1 - number].wait(60)
        return time.monotonic() - begin, unfinished(folder)


def unfinished(folder: pathlib.Path) -> bool:
    """Return whether a checkpoint is being written, or was when its process died."""
    return any((folder / "long").glob(".step_*.tmp"))


def main(kills: int) -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_disable_most_optimizations", False)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        seconds, inside = list[float](), 0
        for i in range(kills):
            number = i % 2
            taken, found = kill(folder, number, saving=i % 4 == 0)  # of process 0
            seconds.append(taken)
            inside += found
            steps = sorted(path.stem for path in (folder / "long").glob("*.ckpt"))
            where = "inside a save" if found else ""
            print(f"kill of process {number}: {taken:.2f} s {steps[-1:]} {where}")
        reached = int(steps[-1].removeprefix("step_"))
        hosts_run.LONG = end = reached + 500
        shutil.copytree(folder / "long", folder / "one" / "long")
        shutil.copy(folder / "long.jsonl", folder / "one" / "long.jsonl")
        (folder / "whole").mkdir()
        expected = eqx.filter(hosts_run.heavy(folder / "whole"), eqx.is_array)
        with Pair(folder, "heavy", more=f"steps={end}") as pair:
            codes = pair.codes(300)
        if codes != [0, 0]:
            raise RuntimeError(pair.output(0) + pair.output(1))
        two = [rx.load_params(folder / f"heavy.{i}", expected) for i in (0, 1)]
        one = eqx.filter(hosts_run.heavy(folder / "one"), eqx.is_array)
        folders = folder, folder / "one", folder / "whole"
        logs = [(where / "long.jsonl").read_bytes() for where in folders]
        print(
            f"{kills} kills, {inside} inside a save; {end} steps; seconds until the "
            f"other is gone: median {np.median(seconds):.2f}, most {max(seconds):.2f}. "
            f"The same bits on two processes: {all(same(x, expected) for x in two)}, "
            f"on one: {same(one, expected)}; the same log: {len({*logs}) == 1}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
