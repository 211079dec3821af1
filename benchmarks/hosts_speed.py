"""What two processes cost beside one process with two devices, and beside one device.

    python benchmarks/hosts_speed.py [--rounds N]

The processes live side by side, and are told in turn to make a run, so that only one
run is made at a time. Prints the median milliseconds of a generation, and the goals:

- Open_ES, 32 individuals of 100 numbers, on two processes: at most 1 ms.
- Pendulum, 512 policies, 200 steps, on two processes: at most 1.5 times as long as in
  one process with two devices.
- Open_ES on a sphere, two devices: at most 2.5 times as long as one.
- The same watched by a logger and a checkpointer, on two processes.
"""

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr

import realax as rx


# name: the generations of a run
CASES = {"sphere": 2000, "pendulum": 20, "watched": 2000}


def sphere(x: Any, key: Any, data: Any = None) -> Any:
    return jnp.sum(x**2), None


def make(case: str, n_devices: int, folder: str) -> Any:
    """Return a function that makes a run of a case."""
    steps = CASES[case]
    kws: dict[str, Any] = {"n_devices": n_devices}
    if case == "pendulum":
        task = rx.GymnaxTask("Pendulum-v1", max_steps=200)
        policy = rx.MLPPolicy(*task.space[:2], width=16, depth=1, key=jr.key(0))
        trainer = rx.EvosaxTrainer(steps, "Open_ES", task, policy, popsize=512, **kws)
    else:
        start = jnp.ones(100)
        if case == "watched":
            log = rx.Logger(log_file=f"{folder}/log.jsonl")
            kws["callbacks"] = (log, rx.Checkpointer(f"{folder}/run", every=1000))
        trainer = rx.EvosaxTrainer(steps, "Open_ES", sphere, start, popsize=32, **kws)
    state = trainer.initialize(jr.key(0))
    if case != "watched":
        return lambda: jax.block_until_ready(trainer.train_(state, jr.key(1)))
    # A folder holds one run, so that each goes on where the last one ended.
    states = [state]
    return lambda: states.append(trainer.train_(states.pop(), jr.key(1)))


def child(kind: str, number: int, port: str, folder: str) -> None:
    """Make the runs that come on the standard input, and print their seconds."""
    together = kind == "pair"
    jax.config.update("jax_num_cpu_devices", 1 if together else 2)
    if together:
        rx.initialize_hosts(f"localhost:{port}", 2, number)
    runs = dict[str, Any]()
    for line in sys.stdin:
        case, devices = line.split()
        if line not in runs:
            runs[line] = make(case, int(devices), folder)
            runs[line]()
        begin = time.perf_counter()
        runs[line]()
        print(time.perf_counter() - begin, flush=True)


class Child:
    """A process that makes runs when it is told to."""

    def __init__(self, *arguments: str):
        command = [sys.executable, __file__, "--child", *arguments]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self) -> float:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            try:
                return float(line)
            except ValueError:
                continue  # jax's own output
        raise RuntimeError("a process has ended.")


def measure(children: list[Child], case: str, devices: int) -> float:
    """Return the milliseconds of a generation."""
    for one in children:
        one.tell(f"{case} {devices}")
    return max(one.answer() for one in children) / CASES[case] * 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--child", nargs=4)
    given = parser.parse_args()
    if given.child:
        kind, number, port, folder = given.child
        return child(kind, int(number), port, folder)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        alone = [Child("alone", "0", port, f"{folder}/alone")]
        pair = [Child("pair", str(i), port, f"{folder}/pair") for i in (0, 1)]
        how = {"two processes": (pair, 2), "two devices": (alone, 2)}
        how["one device"] = (alone, 1)
        columns = [*(f"{name}, ms" for name in how), "processes / devices"]
        columns = ["case", *columns, "devices / one"]
        print("|", " | ".join(columns), "|")
        print("|", " | ".join("---" for _ in columns), "|", flush=True)
        for case in CASES:
            found: dict[str, list[float]] = {name: [] for name in how}
            for _ in range(given.rounds):
                for name, (children, devices) in how.items():
                    if case == "watched" and name == "one device":
                        continue
                    found[name].append(measure(children, case, devices))
            times = [statistics.median(one or [float("nan")]) for one in found.values()]
            two, devices, one = times
            shown = " | ".join(f"{time:.3f}" for time in times)
            print(
                f"| {case} | {shown} | {two / devices:.2f} | {devices / one:.2f} |",
                flush=True,
            )
        for one in (*alone, *pair):
            assert one.process.stdin is not None
            one.process.stdin.close()
        for one in (*alone, *pair):
            one.process.wait()


if __name__ == "__main__":
    main()
