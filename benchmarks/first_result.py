"""Measure the time to the first generation on brax, with and without kept programs.

Prints the seconds from the start of a process to the end of one generation of 64 on
hopper: in a process without `rx.enable_compilation_cache`, in one that fills an empty
folder, and in the next one, which finds it filled. Medians of fresh processes in
alternation. Takes about five minutes.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version


ROUNDS = 3
WAYS = ("without", "fills the folder", "finds it filled")


def first_generation(folder: str) -> None:
    """Run one generation, and print the time of its end last."""
    import jax
    import jax.random as jr

    import realax as rx

    if folder:
        rx.enable_compilation_cache(folder)
    task = rx.BraxTask("hopper", 1000, backend="spring")
    policy = rx.MLPPolicy(*task.space[:2], width=32, depth=2, key=jr.key(0))
    trainer = rx.EvosaxTrainer(1, "Open_ES", task, policy, popsize=64)
    jax.block_until_ready(trainer.init_and_train_(jr.key(1)))
    print(time.time())


def seconds(folder: str) -> float:
    """Return the seconds that a process takes for its first generation."""
    start = time.time()
    command = [sys.executable, __file__, "child", folder]
    environ = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k}
    done = subprocess.run(command, capture_output=True, check=True, env=environ)
    return float(done.stdout.split()[-1]) - start


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        first_generation(sys.argv[2])
        return
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            for way, where in zip(WAYS, ("", folder, folder), strict=True):
                times[way].append(seconds(where))
    import jax

    print(f"jax {jax.__version__}, brax {version('brax')}, {jax.devices()[0]}\n")
    print("| compilation cache | first generation, s | of the first |")
    print("| --- | --- | --- |")
    cold = times[WAYS[0]]
    for way, values in times.items():
        share = statistics.median(b / a for a, b in zip(cold, values, strict=True))
        print(f"| {way} | {statistics.median(values):.1f} | {share:.0%} |")


if __name__ == "__main__":
    main()
