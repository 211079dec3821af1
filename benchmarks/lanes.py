"""What runs side by side cost: `rx.Replicated` and `rx.sweep` beside a single run.

    python benchmarks/lanes.py [--rounds N]

Prints the time of 16 replicas of an evolution and of PPO on CartPole-v1 as a multiple
of that of one run, on one device and over two; the time of one replica as a multiple of
the bare trainer's; and how often a sweep of eight values compiles a run. Runs
alternate in one process, and none contains compilation.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.random as jr
from _timing import alternate

import realax as rx


# Before anything uses jax.
jax.config.update("jax_num_cpu_devices", 2)


def evolution(steps: int) -> Any:
    task = rx.GymnaxTask("CartPole-v1", max_steps=200)
    policy = rx.MLPPolicy(*task.space[:2], width=16, depth=1, key=jr.key(0))
    return rx.EvosaxTrainer(steps, "OpenES", task, policy, popsize=64)


def learner(steps: int) -> Any:
    return rx.PPO("CartPole-v1", train_steps=steps)


def gradient(steps: int) -> Any:
    def loss(params: Any, key: Any, data: Any = None) -> Any:
        return (params**2).sum() + 0.01 * jr.normal(key), None

    return rx.OptaxTrainer(steps, "adam", lambda key: jr.normal(key, (100,)), loss, 0.1)


# How to make the trainer, and the steps of a run.
CASES: dict[str, tuple[Callable[[int], Any], int]] = {
    "OpenES, CartPole": (evolution, 200),
    "PPO, CartPole": (learner, 20),
    "adam, 100 numbers": (gradient, 5000),
}


def ratio(first: Any, second: Any, steps: int, rounds: int) -> tuple[float, float]:
    """The milliseconds of a step of a trainer, and the ratio of another's to it."""
    runs = tuple(
        lambda key, one=one: jax.tree.leaves(one.init_and_train_(key))
        for one in (first, second)
    )
    single, _, found = alternate(runs, rounds, steps)
    return single * 1e3, found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print(f"jax {jax.__version__}, {jax.devices()}\n")
    print("| | ms a step | 1 replica | 16 replicas | 16 over two devices |")
    print("| --- | --- | --- | --- | --- |")
    for name, (make, steps) in CASES.items():
        cells = list[str]()
        for n, devices in ((1, 1), (16, 1), (16, 2)):
            many = rx.Replicated(make(steps), n, n_devices=devices)
            single, found = ratio(make(steps), many, steps, rounds)
            cells += [f"{single:.3f}"] if not cells else []
            cells.append(f"{found:.2f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)

    compiled = list[str]()

    def listen(event: str, _: float, **more: Any) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(str(more.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    sweep = rx.sweep(gradient(10), {"learning_rate": [10.0**-i for i in range(8)]})
    sweep.init_and_train(jr.key(0))
    count = sum("bare_run" in name for name in compiled)
    print(f"\nA sweep of 8 values compiles {count} program of a run.")


if __name__ == "__main__":
    main()
