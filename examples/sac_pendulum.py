"""Swing up a pendulum by reinforcement learning: SAC on gymnax's Pendulum.

Shows a learner with a replay buffer, small networks of one's own for the policy and the
critics, a test on new episodes before and after, the learning curves as a picture, and
the policy at work as an animation. Takes about half a minute.
"""

import pathlib

import equinox as eqx
import jax.random as jr

import realax as rx


FOLDER = pathlib.Path("runs")


def main() -> None:
    task = rx.make("Pendulum-v1")
    obs_dims, action_dims, _ = task.space
    trainer = rx.SAC(
        task,
        total_timesteps=10_000,
        # Two scores for each component of an action: its mean and its deviation.
        actor=lambda key: eqx.nn.MLP(obs_dims, 2 * action_dims, 64, 2, key=key),
        critic=lambda key: rx.ActionValue(
            eqx.nn.MLP(obs_dims + action_dims, "scalar", 64, 2, key=key)
        ),
        buffer_size=10_000,
    )
    start = trainer.initialize(jr.key(0))
    state, data = trainer.train(start, jr.key(1))
    for step in range(999, trainer.train_steps, 1000):
        mean = data["metrics"]["episode_return"][step]
        print(f"step {step + 1:5d}  mean return of the last episodes {mean:.1f}")

    policy = trainer.params(state)
    play = eqx.filter_jit(eqx.filter_vmap(task, in_axes=(None, 0)))
    keys = jr.split(jr.key(2), 100)
    before, after = (
        play(one, keys)[0].mean() for one in (trainer.params(start), policy)
    )
    print(f"100 new episodes: mean return {before:.1f} before, {after:.1f} after")

    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / "sac_pendulum.png"
    metrics = ["episode_return", "value_loss", "entropy", "temperature"]
    rx.plot.curves(data, metrics).savefig(file, dpi=120)
    print("learning curves:", file)
    print("an episode:", task.render(policy, keys[0], FOLDER / "sac_pendulum.gif"))


if __name__ == "__main__":
    main()
