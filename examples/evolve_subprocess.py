"""Evolve the gains of a controller in a simulator that is another program.

The simulator is a process that reads numbers and prints one, as a compiled binary does.
Threads wait for several of them at a time. Some of its runs fail, and count as such.
"""

import subprocess
import sys

import jax.numpy as jnp
import jax.random as jr

import realax as rx


# A cart on a track in gusts of wind; it crashes if it leaves the track.
SIMULATOR = """
import random, sys
p, d, seed = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
wind = random.Random(seed)
x, v, cost = 1.0, 0.0, 0.0
for _ in range(200):
    push = max(-3.0, min(3.0, -p * x - d * v))
    v += 0.05 * (push + wind.gauss(0, 2.0))
    x += 0.05 * v
    cost += x * x / 200
    if abs(x) > 5:
        sys.exit("off the track")
print(cost)
"""


def simulate(gains, seed, data=None):
    """Return the mean squared distance of the cart from the middle."""
    command = [sys.executable, "-c", SIMULATOR, *map(str, gains), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout), None


def main() -> None:
    task = rx.HostTask(simulate, workers=4, backend="threads", errors="nan")
    gains, state, data = rx.evolve(
        jnp.zeros(2),  # no push at all
        task,
        jr.key(0),
        strategy="CMA_ES",
        steps=15,
        popsize=12,
        progress_bar=True,
    )
    metrics = data["metrics"]
    for step in 0, 4, 14:
        mean, failed = metrics["mean_fitness"][step], metrics["failed"][step]
        print(f"generation {step + 1:2d}  mean cost {mean:.3f}  {failed} of 12 crashed")
    print(f"gains {gains.round(1)}")


if __name__ == "__main__":
    main()
