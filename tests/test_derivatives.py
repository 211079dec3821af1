"""Derivatives through episodes: right by finite differences, or refused."""

import functools
from typing import Any

import envelope
import equinox as eqx
import gymnax
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
from envelope.struct import field
from gymnax.environments.classic_control.pendulum import Pendulum
from jax.flatten_util import ravel_pytree

import realax as rx
from realax.tasks import as_task


def _policy(task: Any) -> Any:
    return rx.MLPPolicy(*task.space[:2], 4, 1, key=jr.key(0))


def _slopes(function: Any, start: Any, step: float = 1e-4) -> tuple[float, float]:
    """The derivative in a random direction, and the difference quotient."""
    flat, unravel = ravel_pytree(start)
    # One program gives the values and the gradient.
    play = jax.jit(jax.value_and_grad(lambda x: function(unravel(x))))
    way = jr.normal(jr.key(7), flat.shape, flat.dtype)
    slope = play(flat)[1] @ way
    above, below = (play(flat + sign * step * way)[0] for sign in (1, -1))
    quotient = (above - below) / (2 * step)
    return float(slope), float(quotient)


def _of_weights(task: Any, **kws: Any) -> tuple[float, float]:
    arrays, static = eqx.partition(_policy(task), eqx.is_inexact_array)
    play = lambda arrays: task(eqx.combine(arrays, static), jr.key(1))[0]
    return _slopes(play, arrays, **kws)


class Spring(envelope.Environment):
    """A mass that is pushed on a spring of some stiffness; the reward is its height.

    With `stop`, it stops gradients in one of several places.
    """

    stiffness: Any = field(default=2.0)
    stop: Any = envelope.struct.static_field(default=None)

    def init(self, key: Any) -> Any:
        x = jr.normal(key, (2,))
        return x, envelope.InfoContainer(obs=x, reward=0.0, terminated=False)

    def step(self, state: Any, action: Any) -> Any:
        if self.stop == "softmax":  # which stops the maximum's, and is right to
            action = action * jnp.sum(jax.nn.softmax(state) * state)

        def move(_: Any, state: Any) -> Any:
            x, v = state
            v = v + 0.1 * (action[0] - self.stiffness * x)
            after = jnp.stack([x + 0.1 * v, v])
            return jax.lax.stop_gradient(after) if self.stop == "loop" else after

        after = jax.lax.fori_loop(0, 2, move, state)
        if self.stop == "step":
            after = jax.jit(jax.lax.stop_gradient)(after)
        reward = after[0] - 0.1 * jnp.sum(action**2)
        info = envelope.InfoContainer(obs=after, reward=reward, terminated=False)
        return after, info

    @property
    def observation_space(self) -> Any:
        return envelope.Continuous.from_shape(-jnp.inf, jnp.inf, (2,))

    @property
    def action_space(self) -> Any:
        return envelope.Continuous.from_shape(-9.0, 9.0, (1,))


class Detached(Pendulum):
    """A gymnax environment of one's own, which is silent on derivatives and right."""

    def _apply_transition_gradient_policy(self, observation: Any, state: Any) -> Any:
        return observation, state


RIGHT = {
    "gymnax by name": lambda: rx.GymnaxTask("Pendulum-v1", 6),
    "gymnax with them": lambda: rx.GymnaxTask(Pendulum().with_transition_gradients()),
    "gymnax of one's own": lambda: rx.GymnaxTask(Detached(), 6),
    "an own environment": lambda: rx.EnvelopeTask(Spring(), 6),
    "softmax": lambda: rx.EnvelopeTask(Spring(stop="softmax"), 6),
}
CUT = {
    "gymnax's instance": lambda: rx.GymnaxTask(Pendulum(), 6),
    "gymnax in envelope": lambda: rx.EnvelopeTask("gymnax::Pendulum-v1", 6),
    "an own environment": lambda: rx.EnvelopeTask(Spring(stop="step"), 6),
    "in a loop": lambda: rx.EnvelopeTask(Spring(stop="loop"), 6),
    "CartPole": lambda: rx.GymnaxTask("CartPole-v1", 6),
}


@pytest.mark.parametrize("make", RIGHT.values(), ids=RIGHT)
def test_of_the_weights(make: Any) -> None:
    with jax.enable_x64(True):
        task = make()
        assert task.differentiable and task.obstacle is None
        slope, quotient = _of_weights(task)
        assert abs(quotient) > 1e-3
        assert slope == pytest.approx(quotient, rel=1e-3)


@pytest.mark.slow
def test_of_the_weights_on_brax() -> None:
    with jax.enable_x64(True):
        task = rx.BraxTask("inverted_double_pendulum", 3, backend="spring")
        slope, quotient = _of_weights(task)
        assert slope == pytest.approx(quotient, rel=1e-3) and slope != 0


def test_of_an_environment_that_is_computed() -> None:
    """`environment` of a subclass may compute from the task's own numbers."""

    class Stiffer(rx.EnvelopeTask[Any]):
        def environment(self) -> Any:
            env: Any = super().environment()
            return eqx.tree_at(lambda env: env.stiffness, env, env.stiffness * 2)

    with jax.enable_x64(True):
        slope, quotient = _of_weights(Stiffer(Spring(stiffness=jnp.asarray(1.0)), 6))
        assert abs(quotient) > 1e-3
        assert slope == pytest.approx(quotient, rel=1e-3)
        given, _ = _of_weights(rx.EnvelopeTask(Spring(stiffness=2.0), 6))
        assert slope == pytest.approx(given, rel=1e-6)


@pytest.mark.filterwarnings("ignore:Brax System:UserWarning")
def test_brax_is_differentiable() -> None:
    assert rx.BraxTask("inverted_pendulum").differentiable
    import brax.envs  # after realax has imported it, without its warnings

    env = brax.envs.get_environment("inverted_pendulum", backend="spring")

    class Stopped(type(env)):
        def step(self, state: Any, action: Any) -> Any:
            return jax.lax.stop_gradient(super().step(state, action))

    assert rx.BraxTask(env).differentiable
    assert not rx.BraxTask(Stopped(backend="spring")).differentiable


def test_of_the_parameters() -> None:
    with jax.enable_x64(True):
        task = rx.GymnaxTask("Pendulum-v1", 20)
        policy = _policy(task)
        for lanes in 0, 2:
            task = rx.GymnaxTask("Pendulum-v1", 20, lanes=lanes)
            population = eqx.filter_vmap(lambda _: policy)(jnp.arange(3))  # noqa: B023

            def play(g: Any, task: Any = task, population: Any = population) -> Any:
                other = eqx.tree_at(lambda t: t.env_params.g, task, g)
                return jnp.mean(
                    other.evaluate(population, jr.split(jr.key(1), (3, 1)))[0]
                )

            slope, quotient = _slopes(play, jnp.asarray(10.0), 1e-3)
            assert slope == pytest.approx(quotient, rel=1e-3) and abs(slope) > 0.1
        own = rx.EnvelopeTask(Spring(jnp.asarray(2.0)), 6)
        stiffer = lambda k: eqx.tree_at(lambda t: t.env.stiffness, own, k)
        play = lambda k: stiffer(k)(_policy(own), jr.key(1))[0]
        slope, quotient = _slopes(play, jnp.asarray(2.0))
        assert slope == pytest.approx(quotient, rel=1e-3) and abs(slope) > 0.01


@pytest.mark.parametrize("make", CUT.values(), ids=CUT)
def test_refused(make: Any) -> None:
    task = make()
    assert not task.differentiable and not rx.Minibatch(task, 2).differentiable
    arrays, static = eqx.partition(_policy(task), eqx.is_inexact_array)

    def rollout(arrays: Any) -> Any:
        return jnp.sum(task.rollout(eqx.combine(arrays, static), jr.key(0)).reward)

    def lanes(arrays: Any) -> Any:
        many = jax.tree.map(lambda x: jnp.stack([x, x]), arrays)
        keys = jr.split(jr.key(0), (2, 1))
        return jnp.sum(task.evaluate(eqx.combine(many, static), keys)[0])

    def episode(arrays: Any) -> Any:
        return task(eqx.combine(arrays, static), jr.key(0))[0]

    for play in episode, rollout, lanes:
        with pytest.raises(TypeError, match="cannot be differentiated.*stops"):
            jax.grad(play)(arrays)
        with pytest.raises(TypeError, match="cannot be differentiated.*stops"):
            jax.jvp(jax.jit(play), (arrays,), (arrays,))
    fixed = jax.grad(lambda a: a[0] * episode(jax.lax.stop_gradient(a[1])))
    assert jax.tree.leaves(fixed((1.0, arrays)))[0] == pytest.approx(episode(arrays))
    with pytest.raises(ValueError, match="`loss_fn`.*gradient: .*evolution"):
        rx.OptaxTrainer(3, "sgd", lambda key: _policy(task), task)


def test_of_the_parameters_is_refused() -> None:
    for name in "CartPole-v1", Pendulum():
        task = rx.GymnaxTask(name, 5)
        policy = _policy(task)

        def play(params: Any, task: Any = task, policy: Any = policy) -> Any:
            other = eqx.tree_at(lambda t: t.env_params, task, params)
            return other(policy, jr.key(0))[0]

        with pytest.raises(TypeError, match="stops gradients in its step"):
            eqx.filter_grad(play)(task.env_params)
    with pytest.raises(TypeError, match=r"with_transition_gradients\(\)"):
        eqx.filter_grad(play)(task.env_params)


def test_why_not() -> None:
    def train(task: Any) -> Any:
        return rx.OptaxTrainer(3, "sgd", lambda key: jnp.ones(2), task)

    class Said(rx.AbstractTask[Any]):
        maximize: bool = False
        differentiable = False

        def __call__(self, params: Any, key: Any, data: Any = None) -> Any:
            return jnp.sum(params), None

    with pytest.raises(ValueError, match="discrete choices.*derivative is 0"):
        train(rx.GymnaxTask("CartPole-v1"))
    for task in (
        Said(),
        rx.Minibatch(Said(), 3),
        functools.partial(eqx.filter_jit(Said())),
    ):
        assert not as_task(task).differentiable
        with pytest.raises(ValueError, match="its `differentiable` is False"):
            train(task)
    assert as_task(lambda params, key, data: (0.0, None)).differentiable
    train(lambda params, key, data=None: Said()(params, key))


def test_gradient_descent_on_an_environment() -> None:
    task = rx.GymnaxTask("Pendulum-v1", 10)
    trainer = rx.OptaxTrainer(20, "adam", lambda key: _policy(task), task, 0.01)
    _, data = trainer.init_and_train(jr.key(0))
    assert jnp.all(data["metrics"]["grad_norm"] > 0)


def test_gymnax_by_name_plays_as_its_instance() -> None:
    policy = rx.MLPPolicy(3, 1, 4, 1, key=jr.key(0))
    found, expected = (
        rx.GymnaxTask(env, 30).rollout(policy, jr.key(3))
        for env in ("Pendulum-v1", gymnax.make("Pendulum-v1")[0])
    )
    assert jnp.array_equal(found.obs, expected.obs)
