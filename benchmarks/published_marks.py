"""Compare evolution with published marks, at the settings of those runs.

gymnax-blines (https://github.com/RobertTLange/gymnax-blines) evolves a 64x64 relu
network by OpenES: adam, population 100, 20 rollouts each, centred ranks, learning rate
and deviation decaying by 0.999 a generation. Here 100 generations and 3 seeds; each
evolved mean then plays 164 new episodes. Prints a table. Takes about twenty minutes on
two cores. `python benchmarks/published_marks.py CartPole-v1` runs one environment.
"""

import sys
import time

import equinox as eqx
import jax
import jax.random as jr
import optax

import realax as rx


# (environment, deviation, learning rate, the mark)
SETTINGS = [
    ("CartPole-v1", 0.03, 0.04, 490.0),
    ("Acrobot-v1", 0.03, 0.04, -85.0),
    ("Pendulum-v1", 0.05, 0.125, -160.0),
]
GENERATIONS, POPSIZE, ROLLOUTS, SEEDS, EPISODES = 100, 100, 20, 3, 164


def evolve(name: str, std: float, rate: float, seed: int) -> tuple[float, float]:
    """Evolve a policy; return its mean return on new episodes and the seconds taken."""
    # Pendulum's speed is up to 8 where its other observations are up to 1. The search
    # starts at zero, as theirs does.
    task = rx.GymnaxTask(name, normalize_obs=True)
    policy_key, run_key, test_key = jr.split(jr.key(seed), 3)
    policy = rx.MLPPolicy(
        *task.space[:2], width=64, depth=2, activation=jax.nn.relu, key=policy_key
    )
    policy = jax.tree.map(lambda x: 0 * x if eqx.is_array(x) else x, policy)
    start = time.perf_counter()
    policy, _ = rx.evolve(
        policy,
        task,
        run_key,
        strategy="OpenES",
        popsize=POPSIZE,
        eval_reps=ROLLOUTS,
        steps=GENERATIONS,
        use_scan=False,
        fitness_shaper=rx.FitnessShaper(centered_rank=True),
        es_kws={
            "optimizer": "adam",
            "learning_rate": optax.exponential_decay(rate, 1, 0.999),
            "std": optax.exponential_decay(std, 1, 0.999),
        },
    )
    play = eqx.filter_jit(eqx.filter_vmap(task, in_axes=(None, 0)))
    returns, _ = play(policy, jr.split(test_key, EPISODES))
    return float(returns.mean()), time.perf_counter() - start


def main() -> None:
    print("| environment | seed 0 | seed 1 | seed 2 | mean | mark | seconds a run |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, std, rate, mark in SETTINGS:
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        runs = [evolve(name, std, rate, seed) for seed in range(SEEDS)]
        returns = [value for value, _ in runs]
        columns = " | ".join(f"{value:.1f}" for value in returns)
        seconds = sum(took for _, took in runs) / SEEDS
        mean = sum(returns) / SEEDS
        print(f"| {name} | {columns} | {mean:.1f} | {mark:.0f} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
