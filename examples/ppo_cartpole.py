"""Balance a pole by reinforcement learning: PPO on gymnax's CartPole, three seeds.

Shows a `PPO` trainer, seeds side by side in one compiled program, an `Evaluator`, a
test on new episodes, and the learning curves as a picture. Takes about half a minute.
"""

import pathlib

import equinox as eqx
import jax
import jax.random as jr

import realax as rx


FOLDER = pathlib.Path("runs")


def main() -> None:
    # Returns of 500 are large for a critic: with scaled rewards, more seeds learn.
    trainer = rx.PPO("CartPole-v1", total_timesteps=200_000, scale_rewards=True)
    states, data = jax.jit(jax.vmap(lambda key: trainer.init_and_train(key)))(
        jr.split(jr.key(0), 3)
    )
    for update in range(19, trainer.train_steps, 20):
        returns = data["metrics"]["episode_return"][:, update]
        print(f"update {update + 1:3d}  mean returns of three seeds", returns.round(1))

    play = eqx.filter_jit(eqx.filter_vmap(trainer.env, in_axes=(None, 0)))
    for seed in range(3):
        state = jax.tree.map(lambda leaf, i=seed: leaf[i], states)
        returns, _ = play(trainer.params(state), jr.split(jr.key(1), 100))
        print(f"seed {seed}: mean return of 100 new episodes {returns.mean():.1f}")

    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / "ppo_cartpole.png"
    metrics = ["episode_return", "value_loss", "entropy", "approx_kl"]
    rx.plot.curves(data, metrics, lanes=0).savefig(file, dpi=120)
    print("learning curves:", file)


if __name__ == "__main__":
    main()
