"""A small environment whose episodes last some steps, and whose programs are small."""

from typing import Any, override

import envelope
import jax.numpy as jnp
import jax.random as jr
from envelope.struct import field, static_field

import realax as rx


LOW, HIGH = (-1.0, 0.0), (2.0, 0.5)


class Reach(envelope.Environment):
    """Pushes a point by two numbers within unequal bounds, or by one of three choices.

    It ends where the point has gone too far. With `shown`, the observation is a
    dictionary with an image.
    """

    far: Any = field(default=1.0)
    discrete: bool = static_field(default=False)
    shown: bool = static_field(default=False)

    def _info(self, x: Any, reward: Any) -> Any:
        obs = x
        if self.shown:
            image = jnp.clip(100 + 50 * x, 0, 255).astype(jnp.uint8)
            obs = {"image": jnp.broadcast_to(image, (4, 4, 3)), "speed": x[:1]}
        over = jnp.abs(x[0]) > self.far
        return envelope.InfoContainer(obs=obs, reward=reward, terminated=over)

    @override
    def init(self, key: Any) -> Any:
        x = 0.3 * jr.normal(key, (3,))
        return x, self._info(x, jnp.zeros(()))

    @override
    def step(self, state: Any, action: Any) -> Any:
        if self.discrete:
            action = jnp.array([1.0, 0.5]) * (action - 1)
        push = jnp.array([action[0], action[1], action[0] * action[1]])
        x = 0.9 * state + 0.5 * push
        return x, self._info(x, -jnp.sum(x**2))

    @property
    @override
    def observation_space(self) -> Any:
        space = envelope.Continuous.from_shape(-jnp.inf, jnp.inf, (3,))
        if not self.shown:
            return space
        image = envelope.Continuous.from_shape(
            jnp.asarray(0, jnp.uint8), jnp.asarray(255, jnp.uint8), (4, 4, 3)
        )
        speed = envelope.Continuous.from_shape(-jnp.inf, jnp.inf, (1,))
        return envelope.PyTreeSpace(tree={"image": image, "speed": speed})

    @property
    @override
    def action_space(self) -> Any:
        if self.discrete:
            return envelope.Discrete(n=3)
        return envelope.Continuous(low=jnp.array(LOW), high=jnp.array(HIGH))


def reach(limit: int = 7, **more: Any) -> Any:
    options = {k: more.pop(k) for k in ("flatten_obs", "descriptor") if k in more}
    return rx.make(Reach(**more), max_steps=limit, **options)
