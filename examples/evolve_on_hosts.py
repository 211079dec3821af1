"""Evolve CartPole on several processes, as one run over all of their devices.

    for i in 0 1; do python examples/evolve_on_hosts.py localhost:9876 2 $i & done; wait

Its arguments are the address of process 0, the number of processes and that of this
one. Without them it is a run in one process. Every process has the same result, process
0 alone writes the log and the checkpoints, and the same command after a kill goes on.
Takes about half a minute.
"""

import sys

import jax
import jax.random as jr

import realax as rx


def main(arguments: list[str]) -> None:
    if arguments:
        address, count, number = arguments
        rx.initialize_hosts(address, int(count), int(number))

    task = rx.GymnaxTask("CartPole-v1")
    policy = rx.MLPPolicy(*task.space[:2], width=16, depth=1, key=jr.key(0))
    folder = "runs/hosts"
    policy, state, data = rx.evolve(
        policy,
        task,
        jr.key(1),
        strategy="OpenES",
        popsize=64,
        eval_reps=4,
        steps=60,
        n_devices=jax.device_count(),
        callbacks=(
            rx.Checkpointer(folder, every=20),
            rx.Logger(log_file=f"{folder}.jsonl"),
        ),
    )

    value, _ = task(policy, jr.key(2))
    print(
        f"process {jax.process_index()} of {jax.process_count()}, "
        f"{jax.device_count()} devices: step {state.step}, best mean return "
        f"{state.best_fitness:.1f}, of a new episode {value:.0f}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
