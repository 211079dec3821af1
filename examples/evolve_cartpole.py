"""Balance a pole: evolve a small network on gymnax's CartPole, then test it.

Shows a `GymnaxTask`, the evolution of a policy, and a test on episodes that evolution
has not seen. Takes about half a minute.
"""

import equinox as eqx
import jax.random as jr

import realax as rx


def main() -> None:
    task = rx.GymnaxTask("CartPole-v1")
    obs_dims, action_dims, _ = rx.ENV_SPACES["CartPole-v1"]
    policy = rx.MLPPolicy(obs_dims, action_dims, width=16, depth=1, key=jr.key(0))

    policy, state, data = rx.evolve(
        policy,
        task,
        jr.key(1),
        strategy="OpenES",
        popsize=64,
        eval_reps=4,
        steps=60,
        progress_bar=True,
    )
    for step in range(9, 60, 10):
        mean = data["metrics"]["mean_fitness"][step]
        print(f"generation {step + 1:2d}  mean return {mean:5.1f}")

    play = eqx.filter_jit(eqx.filter_vmap(task, in_axes=(None, 0)))
    returns, _ = play(policy, jr.split(jr.key(2), 100))
    print(f"100 new episodes: mean {returns.mean():.1f}, worst {returns.min():.0f}")


if __name__ == "__main__":
    main()
