"""The replay buffer: its speed, its memory, and the time of a checkpoint of it.

    python benchmarks/replay.py [--rounds N]

A row has 20 numbers. Each step adds a row and samples 256 of a million, in one compiled
loop. After `pip install --no-deps flashbax==0.1.3`, flashbax's item buffer does so
beside it. Memory is the largest that a fresh process takes, less that of one
with a small buffer. A checkpoint is that of a whole trainer's state.
"""

import argparse
import functools
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from _timing import alternate

import realax as rx


CAPACITY, NUMBERS, BATCH, STEPS = 1_000_000, 20, 256, 2000


def row(i: Any) -> Any:
    """A row of experience: 20 numbers."""
    return {"obs": jnp.full((NUMBERS - 1,), i, jnp.float32), "reward": i * 1.0}


def ours(buffer: Any, key: Any) -> Any:
    """Add and sample `STEPS` times."""

    def step(buffer: Any, i: Any) -> Any:
        buffer = buffer.add(jax.tree.map(lambda x: x[None], row(i)))
        rows = buffer.sample(jr.fold_in(key, i), BATCH)
        return buffer, sum(jnp.sum(x) for x in jax.tree.leaves(rows))

    return jax.lax.scan(step, buffer, jnp.arange(STEPS))


def theirs(api: Any, state: Any, key: Any) -> Any:
    """The same with a buffer of flashbax."""

    def step(state: Any, i: Any) -> Any:
        state = api.add(state, row(i))
        rows = api.sample(state, jr.fold_in(key, i)).experience
        return state, sum(jnp.sum(x) for x in jax.tree.leaves(rows))

    return jax.lax.scan(step, state, jnp.arange(STEPS))


def speed(rounds: int) -> None:
    """Print the microseconds of a step."""
    shape = jax.eval_shape(row, jnp.zeros((), jnp.int32))
    held = {"buffer": rx.ReplayBuffer[Any].new(shape, CAPACITY)}
    run = jax.jit(ours, donate_argnums=0)

    def our_run(key: Any) -> Any:
        held["buffer"], sums = run(held["buffer"], key)
        return sums

    try:
        import flashbax
    except ImportError:
        print("flashbax is not installed")
        return
    api = flashbax.make_item_buffer(CAPACITY, 1, BATCH, add_batches=False)
    state = {"state": api.init(row(jnp.zeros((), jnp.int32)))}
    other = jax.jit(functools.partial(theirs, api), donate_argnums=0)

    def their_run(key: Any) -> Any:
        state["state"], sums = other(state["state"], key)
        return sums

    first, second, ratio = alternate((our_run, their_run), rounds, STEPS)
    print(
        f"realax {first * 1e6:.1f} us a step, flashbax {second * 1e6:.1f} ({ratio:.2f})"
    )


def trainer(capacity: int, **more: Any) -> Any:
    """A trainer with small networks, and rows of eight numbers and three flags."""
    return rx.TD3(
        "Pendulum-v1",
        train_steps=2000,
        buffer_size=capacity,
        actor=lambda key: eqx.nn.MLP(3, 1, 8, 1, key=key),
        critic=lambda key: rx.ActionValue(eqx.nn.MLP(4, "scalar", 8, 1, key=key)),
        **more,
    )


def peak(capacity: int, kind: str) -> float:
    """Return the largest memory in MiB of a fresh process that trains."""
    command = [sys.executable, __file__, "--train", str(capacity), kind]
    return float(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )


def train(capacity: int, kind: str) -> None:
    """Train, and print the largest memory of this process in MiB."""
    bars = [rx.ProgressBar()] if kind == "observed" else []
    made = trainer(capacity, callbacks=bars)
    if kind == "own":
        made.train_(made.initialize(jr.key(0)), jr.key(1))
    else:
        made.init_and_train_(jr.key(0))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory() -> None:
    """Print the memory that a buffer of four million rows takes."""
    state = jax.eval_shape(trainer(4_000_000).initialize, jr.key(0))
    size = sum(x.size * x.dtype.itemsize for x in state.buffer.storage) / 2**20
    for kind in ("whole", "observed", "own"):
        more = peak(4_000_000, kind) - peak(4000, kind)
        print(f"{kind}: {more:.0f} MiB for a buffer of {size:.0f} MiB")


def seconds(folder: str | None) -> float:
    """Return the time of a run of 2000 steps, with four checkpoints in a folder."""
    saved = rx.Checkpointer(folder, every=500) if folder else rx.ProgressBar(every=500)
    start = time.perf_counter()
    trainer(CAPACITY, callbacks=saved).init_and_train_(jr.key(0))
    return time.perf_counter() - start


def checkpoint() -> None:
    """Print the seconds that a checkpoint of a buffer of a million rows takes."""
    with tempfile.TemporaryDirectory() as folder:
        seconds(None), seconds(f"{folder}/compiled")
        more = [(seconds(f"{folder}/{i}") - seconds(None)) / 4 for i in range(3)]
        size = max(file.stat().st_size for file in pathlib.Path(folder).rglob("*.ckpt"))
    middle = sorted(more)[1]
    print(
        f"a checkpoint of {size / 2**20:.0f} MiB: {middle:.2f} s, "
        f"{middle / 60:.1%} of a minute"
    )


def main() -> None:
    """Print all tables, or train in this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        warnings.simplefilter("ignore")
        train(int(options.train[0]), options.train[1])
        return
    speed(options.rounds)
    memory()
    checkpoint()


if __name__ == "__main__":
    main()
