"""Improve a policy by the analytic gradient of its return, through the physics.

A planar drone with two rotors learns to fly to the origin and hover. It is written as
an `envelope.Environment` in plain jax. The environment task itself is the loss: it is
maximised, and the gradient of an episode's return flows through all of its steps.
Takes about ten seconds.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from envelope import Continuous, Environment, InfoContainer
from jaxtyping import Array, PRNGKeyArray

import realax as rx


class Drone(Environment):
    """State: x, z, angle, and their velocities. Action: extra thrust of each rotor."""

    seconds_per_step: float = 0.05

    def init(self, key: PRNGKeyArray) -> tuple[Array, InfoContainer]:
        state = jr.uniform(key, (6,), minval=-1.0, maxval=1.0)
        return state, InfoContainer(obs=state, reward=0.0, terminated=False)

    def step(self, state: Array, action: Array) -> tuple[Array, InfoContainer]:
        left, right = 1.0 + 0.5 * action
        angle, velocity = state[2], state[3:]
        lift = 9.81 * (left + right) / 2
        acceleration = jnp.array(
            [
                -lift * jnp.sin(angle),
                lift * jnp.cos(angle) - 9.81,
                10.0 * (right - left),
            ]
        )
        velocity = velocity + self.seconds_per_step * acceleration
        state = jnp.concatenate(
            [state[:3] + self.seconds_per_step * velocity, velocity]
        )
        reward = 1.0 / (1.0 + jnp.sum(state[:3] ** 2) + 0.1 * jnp.sum(velocity**2))
        return state, InfoContainer(obs=state, reward=reward, terminated=False)

    @property
    def observation_space(self) -> Continuous:
        return Continuous.from_shape(-jnp.inf, jnp.inf, (6,))

    @property
    def action_space(self) -> Continuous:
        return Continuous.from_shape(-1.0, 1.0, (2,))


def main() -> None:
    task = rx.make(Drone(), max_steps=100)
    policy = rx.MLPPolicy(
        *task.space[:2], width=32, depth=2, activation=jnp.tanh, key=jr.key(0)
    )
    trainer = rx.OptaxTrainer(
        epochs=3000,
        # Gradients of long episodes are now and then huge.
        optimizer=optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adam(optax.cosine_decay_schedule(3e-3, 3000)),
        ),
        initializer=lambda key: policy,
        loss_fn=task,
    )
    state, data = trainer.init_and_train(jr.key(1))
    play = eqx.filter_jit(eqx.filter_vmap(task, in_axes=(None, 0)))
    keys = jr.split(jr.key(2), 256)
    before, after = (play(p, keys)[0].mean() for p in (policy, trainer.params(state)))
    print(f"256 new episodes: mean return {before:.1f} before, {after:.1f} after")
    print(f"steps skipped for a gradient that was not finite: {int(state.skipped)}")
    curve = jax.device_get(data["metrics"]["loss"].reshape(10, 300).mean(1))
    print("return while training:", " ".join(f"{value:.0f}" for value in curve))


if __name__ == "__main__":
    main()
