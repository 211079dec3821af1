"""A campaign of faults for tasks on the host: does anything change a result?

    pip install "realax[host,ray]"
    python benchmarks/host_faults.py [--case NAME] [--kills N] [--ray]

Prints, each beside a run in this process without faults:
- whether the bits are the same with 1, 2 and 3 processes, with threads, and with Ray;
- the same while 2 % of the jobs kill their worker or hang, at random;
- the same after N SIGKILLs of the process that trains, each resumed;
- the same while one of two nodes of a cluster of Ray is removed.

Also the seconds of a generation in which one job of sixteen fails in each way (goal:
its timeout of 2 s and 2 more), and those until a run whose workers hang is gone after
a signal (goal: 2).
"""

import argparse
import ctypes
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np

import realax as rx


STEPS = 60
CASES = ["workers", "faults", "jobs", "signals", "kills", "node"]
# A file; while it exists, each evaluation of a run that is killed takes for ever.
HANG = ""


def loss(params: Any, seed: int, data: Any = None) -> Any:
    while HANG and os.path.exists(HANG):
        time.sleep(0.01)
    noise = np.random.default_rng(seed).normal()
    return np.sum((params["gains"] - 1) ** 2) + 0.1 * noise, {"seed": seed % 100}


def faulty(params: Any, seed: int, data: Any = None) -> Any:
    """As `loss`, but two in a hundred calls kill their process or hang."""
    chance = random.SystemRandom().random()
    if chance < 0.01:
        os.kill(os.getpid(), signal.SIGKILL)
    while chance < 0.02:
        time.sleep(0.01)
    return loss(params, seed, data)


def run(task: Any, **kws: Any) -> np.ndarray:
    """Return the fitness of each individual in each generation, and the result."""
    start = {"gains": jnp.zeros(8)}
    params, _, data = rx.evolve(
        start, task, jr.key(0), strategy="CMA_ES", steps=STEPS, popsize=32, **kws
    )
    # A run that was complete when it was resumed has no generations of its own.
    gains = np.resize(np.asarray(params["gains"]), (1, 32))
    return np.concatenate([np.asarray(data["metrics"]["fitness"]), gains])


def child(folder: str) -> None:
    """Train with checkpoints, and write the result; it is killed and started again."""
    global HANG
    HANG = f"{folder}/hang"
    # A shell starts what it puts into the background with this signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with rx.HostTask(loss, workers=2) as task:
        fitness = run(task, callbacks=rx.Checkpointer(f"{folder}/run", every=1))
    np.save(f"{folder}/fitness.npy", fitness)


def kills(number: int, expected: np.ndarray) -> None:
    """Kill a run at random moments, and compare what the last one computed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", folder]
        killed = 0
        while killed < number:
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            runs, end = pathlib.Path(folder) / "run", time.monotonic() + 120
            before = sorted(runs.glob("*.ckpt"))
            while sorted(runs.glob("*.ckpt")) == before and process.poll() is None:
                assert time.monotonic() < end
                time.sleep(0.01)
            time.sleep(random.random() * 0.02)
            if process.poll() is not None:
                break
            process.kill()
            process.wait()
            killed += 1
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        rest = np.load(f"{folder}/fitness.npy")
        same = np.array_equal(rest, expected[len(expected) - len(rest) :])
        last = f"the last {len(rest) - 1} generations and the gains"
        print(f"{killed} kills: {last} are the same: {same}")


def node_lost(expected: np.ndarray) -> None:
    """Remove one of two nodes of a cluster of Ray while a run is in progress."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address)
    with rx.HostTask(slow, workers=2, backend="ray", retries=9) as task:
        remove = threading.Timer(20.0, lambda: cluster.remove_node(node))
        remove.start()
        start = time.monotonic()
        same = np.array_equal(run(task), expected)
        remove.join()
    seconds = time.monotonic() - start
    print(f"a node of Ray is removed: the same: {same}, {seconds:.0f} s", flush=True)
    ray.shutdown()
    cluster.shutdown()


def slow(params: Any, seed: int, data: Any = None) -> Any:
    time.sleep(0.02)
    return loss(params, seed, data)


FAULTS = (
    "raises",
    "exits",
    "is killed",
    "crashes",
    "hangs",
    "hangs outside of Python",
)


def one_of_sixteen(params: Any, seed: int, data: Any = None) -> Any:
    """Do what `data` says for the individual 5."""
    if params[0] == 5:
        match data:
            case "raises":
                raise ValueError
            case "exits":
                sys.exit(3)
            case "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "crashes":
                ctypes.string_at(0)
            case "hangs":
                while True:
                    pass
            case "hangs outside of Python":
                ctypes.PyDLL(None).sleep(1000)
    return float(params[0]), {"process": os.getpid()}


def jobs(timeout: float = 2.0) -> None:
    """Let one job of sixteen fail, and print how long the generation takes."""
    keys, population = jr.split(jr.key(0), (16, 1)), jnp.arange(16.0)[:, None]
    for what in FAULTS:
        kws: dict[str, Any] = {"retries": 0, "errors": "nan"}
        with rx.HostTask(one_of_sixteen, workers=2, timeout=timeout, **kws) as task:
            running = 0
            while running < 2:  # until both have started
                _, aux = task.evaluate(population, keys)
                running = len(np.unique(aux["process"]))
            start = time.monotonic()
            values, _ = task.evaluate(population, keys, what)
            seconds = time.monotonic() - start
        alone = np.isnan(values).ravel().tolist() == [i == 5 for i in range(16)]
        print(f"job 5 of 16 {what}: it alone: {alone}, {seconds:.2f} s", flush=True)


def runs_still(process: int) -> bool:
    """Return whether a process runs, and does not only wait to be forgotten."""
    try:
        stat = pathlib.Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.split()[2] != "Z"


def signals() -> None:
    """Send a signal to a run whose workers all hang; print when it is gone."""
    for number in signal.SIGINT, signal.SIGTERM, signal.SIGKILL:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--child", folder]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            runs = pathlib.Path(folder) / "run"
            while not [*runs.glob("*.ckpt")]:
                time.sleep(0.05)
            (pathlib.Path(folder) / "hang").touch()
            time.sleep(1.0)
            listed = ["ps", "-o", "pid=", "--ppid", str(process.pid)]
            found = subprocess.run(listed, capture_output=True, text=True)
            children = [int(pid) for pid in found.stdout.split()]
            start = time.monotonic()
            process.send_signal(number)
            process.wait()
            seconds = time.monotonic() - start
            time.sleep(0.5)
            left = [one for one in children if runs_still(one)]
        print(f"{number.name}: gone in {seconds:.2f} s, left: {left}", flush=True)


def workers(ray: bool, expected: np.ndarray) -> None:
    """Compare the bits of all kinds of workers."""
    cases: list[dict[str, Any]] = [{"workers": n} for n in (1, 2, 3)]
    cases += [{"workers": 3, "backend": "threads"}]
    cases += [{"workers": 2, "backend": "ray"}] * ray
    for kws in cases:
        with rx.HostTask(loss, **kws) as task:
            print(kws, "the same:", np.array_equal(run(task), expected), flush=True)


def faults(ray: bool, expected: np.ndarray) -> None:
    """Compare the bits while two in a hundred jobs kill their worker or hang."""
    for kws in [{"workers": 2}, *[{"workers": 2, "backend": "ray"}] * ray]:
        start = time.monotonic()
        with rx.HostTask(faulty, timeout=0.5, retries=9, **kws) as task:
            same = np.array_equal(run(task), expected)
        seconds = time.monotonic() - start
        share = f"{kws} 2 % of {STEPS * 32} jobs fail"
        print(f"{share}: the same: {same}, {seconds:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child)
        return
    warnings.simplefilter("ignore", RuntimeWarning)
    expected, case = run(rx.HostTask(loss)), given.case
    if case in (None, "workers"):
        workers(given.ray, expected)
    if case in (None, "faults"):
        faults(given.ray, expected)
    if case in (None, "jobs"):
        jobs()
    if case in (None, "signals"):
        signals()
    if case in (None, "kills"):
        kills(given.kills, expected)
    if given.ray and case in (None, "node"):
        import ray

        ray.shutdown()
        node_lost(expected)


if __name__ == "__main__":
    main()
