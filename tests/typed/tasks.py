"""Tasks, as users write them: checked strictly, and run by a test."""

from typing import Any, assert_type

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

import realax as rx


class Near(rx.AbstractTask[Array]):
    """A field of its own, and a direction for all of its kind."""

    target: Array
    maximize = False

    def __call__(
        self, params: Array, key: Array, data: Any = None
    ) -> tuple[Array, Any]:
        return jnp.sum((params - self.target) ** 2), None


class Far(rx.AbstractTask[Array]):
    target: Array
    weight: float = 2.0
    maximize = True

    def __call__(
        self, params: Array, key: Array, data: Any = None
    ) -> tuple[Array, Any]:
        return self.weight * jnp.tanh(jnp.sum((params - self.target) ** 2)), None


class Asked(rx.AbstractTask[Array]):
    """A direction by a property."""

    target: Array

    @property
    def maximize(self) -> bool:
        return True

    @property
    def differentiable(self) -> bool:
        return False

    def __call__(
        self, params: Array, key: Array, data: Any = None
    ) -> tuple[Array, Any]:
        return -jnp.sum((params - self.target) ** 2), None


class Told(rx.AbstractTask[Array]):
    """A direction for each of its kind."""

    target: Array
    maximize: bool = eqx.field(static=True, default=True)

    def __call__(
        self, params: Array, key: Array, data: Any = None
    ) -> tuple[Array, Any]:
        value = jnp.sum((params - self.target) ** 2)
        return -value if self.maximize else value, None


target = jr.normal(jr.key(2), (2,))
for task in Near(target), Far(target, 1.0), Asked(target), Told(target, False):
    params, _, _ = rx.evolve(
        jr.normal(jr.key(3), (2,)), task, jr.key(0), steps=2, popsize=4
    )
    assert params.shape == (2,)

pole = rx.GymnaxTask("CartPole-v1", max_steps=5)
ant = rx.BraxTask("fast", 5, backend="spring", lanes=2)
snake = rx.EnvelopeTask("gymnax::CartPole-v1", 5)
named = rx.make("CartPole-v1", max_steps=5)
assert_type(pole, rx.GymnaxTask[Any])
assert_type(ant, rx.BraxTask[Any])
assert_type(snake, rx.EnvelopeTask[Any])
assert_type(named, rx.EnvTask[Any] | rx.GymnasiumTask[Any])
own: rx.GymnaxTask[rx.MLPPolicy] = rx.GymnaxTask("CartPole-v1", max_steps=5)
policy = rx.MLPPolicy(pole.space.obs_dims, pole.space.action_dims, 4, 1, key=jr.key(0))
for environment in pole, snake, named, own:
    value, aux = environment(policy, jr.key(1))
    assert value.shape == () and int(aux["length"]) <= 5
better, _, _ = rx.evolve(policy, pole, jr.key(0), steps=2, popsize=4)
assert_type(better, rx.MLPPolicy)
batches = rx.Minibatch(Near(target), 2)
assert jax.tree.leaves(batches)

# The options of environment tasks are known by name and type.
plain = rx.GymnaxTask("CartPole-v1", 5, lanes=2, chunk=3, flatten_obs=False)
assert plain.lanes == 2 and not plain.flatten_obs
for wrong in (
    lambda: rx.GymnaxTask("CartPole-v1", lane=2),  # pyright: ignore[reportCallIssue]
    lambda: rx.BraxTask("fast", env_params=2),  # pyright: ignore[reportCallIssue]
    lambda: rx.EnvelopeTask("a", lanes="two"),  # pyright: ignore[reportArgumentType]
    lambda: rx.make("CartPole-v1", max_step=5),  # pyright: ignore[reportCallIssue]
):
    try:
        wrong()
    except TypeError:
        continue
    raise AssertionError("a wrong keyword was taken")


def near(params: Array, key: Array, data: Any = None) -> tuple[Array, None]:
    return jnp.sum((params - target) ** 2), None


made = rx.tasks.as_task(near)
assert_type(made, rx.AbstractTask[Array])
assert not made.maximize and not made.stochastic and made.differentiable


class Doubled(rx.tasks.AbstractWrapper[Array]):
    """Twice the value of another task, of which it says everything else."""

    task: rx.AbstractTask[Array]

    def __call__(
        self, params: Array, key: Array, data: Any = None
    ) -> tuple[Array, Any]:
        value, aux = self.task.checked_call(params, key, data)
        return 2 * value, aux

    def evaluate_and_observe(
        self, population: Any, keys: Array, data: Any = None
    ) -> rx.tasks.Evaluation:
        return rx.tasks.Evaluation(*self.evaluate(population, keys, data))


twice = Doubled(Far(target))
assert twice.maximize and twice.obs_stats is None
value, _ = twice(target, jr.key(0))
assert value == 0

streams = pole.begin_streams(policy, jr.split(jr.key(0), 3))
assert_type(streams, rx.tasks.Stream)
streams, experience = pole.advance_streams(policy, streams, 4)
assert_type(experience, rx.tasks.Experience)
assert experience.reward.shape == (4, 3)


def simulated(gains: dict[str, Any], seed: int, data: Any = None) -> tuple[float, None]:
    return float(gains["p"].sum()) + seed % 2, None


host = rx.HostTask(simulated, workers=0, errors="nan", maximize=True)
gains, _, _ = rx.evolve({"p": jnp.zeros(2)}, host, jr.key(0), steps=2, popsize=4)
assert_type(gains, dict[str, Array])
lander = rx.GymnasiumTask("CartPole-v1", 5, lanes=2)
walker, _, record = rx.evolve(
    rx.MLPPolicy(*lander.space[:2], 4, 1, key=jr.key(0)), lander, jr.key(0), steps=2
)
assert_type(walker, rx.MLPPolicy)
refused = (
    lambda: rx.HostTask(simulated, backend="mpi"),  # pyright: ignore[reportArgumentType]
    lambda: rx.HostTask(simulated, worker=2),  # pyright: ignore[reportCallIssue]
    lambda: rx.GymnasiumTask("CartPole-v1", lane=2),  # pyright: ignore[reportCallIssue]
)
