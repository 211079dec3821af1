"""kheperax's mazes: held against the package itself, with its one crash repaired."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx
from realax.tasks.rl_policy import BasePolicy


pytest.importorskip("kheperax")
POP, STEPS = 6, 40


class Flax(BasePolicy[None]):
    """A network of flax, as kheperax's own scoring function plays it."""

    params: Any
    network: Any = eqx.field(static=True)

    def initialize(self, key: Any) -> None:
        return None

    def __call__(self, obs: Any, state: None, key: Any) -> Any:
        return self.network.apply(self.params, obs), None


def nth(i: int, tree: Any) -> Any:
    return jax.tree.map(lambda x: x[i], tree)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Any:
    """kheperax, where its robot no longer calls `jax.tree_leaves`."""
    import kheperax.simu.robot

    def batch_size(tree: Any) -> int:
        return jax.tree.leaves(tree)[0].shape[0]

    monkeypatch.setattr(kheperax.simu.robot, "get_batch_size", batch_size)
    import kheperax.tasks.target

    return kheperax.tasks.target


# A target that some robots reach within a few steps.
NEAR = {"target_pos": (0.12, 0.08), "target_radius": 0.04}


def settings_of(target: bool) -> dict[str, Any]:
    return NEAR if target else {}


def own_task(package: Any, target: bool, **settings: Any) -> Any:
    """Return the class of kheperax's task, and its configuration."""
    kind = package.TargetKheperaxConfig if target else package.KheperaxConfig
    settings |= settings_of(target)
    config = dataclasses.replace(kind.get_default_for_map("standard"), **settings)
    return (package.TargetKheperaxTask if target else package.KheperaxTask), config


@pytest.mark.parametrize("target", [False, True])
def test_steps_are_those_of_kheperax(package: Any, target: bool) -> None:
    kind, config = own_task(package, target)
    own = kind(config)
    reset, step = jax.jit(own.reset), jax.jit(own.step)
    task = rx.KheperaxTask("standard", target, env_kwargs=settings_of(target))
    env: Any = task.environment()
    our_step = jax.jit(env.step)

    key = jr.key(1)
    theirs = reset(key)
    ours, info = env.init(key)
    weights = jr.normal(jr.key(2), (2, 5))
    start = np.array(ours["posture"])
    for t in range(60):
        assert np.allclose(info.obs, theirs.obs, atol=1e-5), t
        action = jnp.tanh(weights @ theirs.obs)
        theirs = step(theirs, action)
        ours, info = our_step(ours, action)
        assert np.isclose(info.reward, theirs.reward, atol=1e-5), t
        assert bool(info.terminated) == bool(theirs.done), t
        position = theirs.info["state_descriptor"]
        assert np.allclose(ours["posture"][:2], position, atol=1e-5), t
    assert np.abs(ours["posture"] - start).max() > 0.05  # it has moved


@pytest.mark.parametrize("target", [False, True])
def test_return_is_the_fitness_of_kheperax(package: Any, target: bool) -> None:
    """And lanes play the episodes that are played alone."""
    kind, config = own_task(package, target, episode_length=STEPS)
    _, network, score = kind.create_default_task(config, jr.PRNGKey(0))
    networks = jax.vmap(lambda key: network.init(key, jnp.zeros(5)))
    params = networks(jr.split(jr.PRNGKey(4), POP))
    fitness, _, extra, _ = jax.jit(score)(params, jr.PRNGKey(1))

    task = rx.KheperaxTask(
        "standard", target, STEPS, env_kwargs=settings_of(target), lanes=2
    )
    keys = jr.split(jr.key(1), (POP, 1))
    evaluate = eqx.filter_jit(task.evaluate)
    value, aux = evaluate(Flax(params, network), keys)
    lengths = aux["length"][:, 0]
    assert np.allclose(value[:, 0], fitness, rtol=1e-4)
    ends = extra["transitions"].next_state_desc[np.arange(POP), lengths - 1]
    assert np.allclose(aux["descriptor"][:, 0], ends, atol=1e-4)
    assert bool(np.any(lengths < STEPS)) == target

    alone = eqx.filter_jit(task)
    for i in range(POP):
        one, own = alone(Flax(nth(i, params), network), keys[i, 0])
        assert np.isclose(value[i, 0], one, rtol=1e-4)
        assert np.allclose(aux["descriptor"][i, 0], own["descriptor"], atol=1e-4)
        assert lengths[i] == own["length"]


def test_a_robot_that_touches_a_wall_stays() -> None:
    env: Any = rx.KheperaxTask("standard").environment()
    step = jax.jit(env.step)
    state, _ = env.init(jr.key(0))
    places = []
    for _ in range(20):
        state, info = step(state, jnp.ones(2))
        places.append(state["posture"])
    assert places[3][1] > 0.24 and np.array_equal(places[-1], places[-2])
    for action in ([-1.0, -1.0], [1.0, -1.0]):
        after, info = step(state, jnp.asarray(action))
        assert np.array_equal(after["posture"], state["posture"])
        assert info.reward < 0.0


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_step_leaves_its_state_alone(noise: float) -> None:
    noisy = {"std_noise_wheel_velocities": noise, "std_noise_sensor_measures": noise}
    env: Any = rx.KheperaxTask("snake", env_kwargs=noisy).environment()
    state, _ = env.init(jr.key(0))
    numbers = np.array(state["posture"])
    first, info = env.step(state, jnp.ones(2))
    again, same = env.step(state, jnp.ones(2))
    assert np.array_equal(state["posture"], numbers)
    assert np.array_equal(first["posture"], again["posture"])
    assert np.array_equal(info.obs, same.obs)
    assert jax.tree.structure(first) == jax.tree.structure(state)
    assert ("key" in state) == (noise > 0.0)


def test_description() -> None:
    task = rx.KheperaxTask("pointmaze", target=True, max_steps=None)
    assert task.max_steps == 1000
    assert task.space == (5, 2, False)
    lower, upper = task.descriptor_bounds
    assert np.array_equal(lower, [0.0, 0.0]) and np.array_equal(upper, [1.0, 1.0])
    assert not task.differentiable
    assert rx.KheperaxTask("snake") == rx.KheperaxTask("snake", max_steps=250)
    everything = rx.KheperaxTask(max_steps=5, data_fn=lambda trajectory: trajectory)
    policy = rx.MLPPolicy(5, 2, width=4, depth=1, key=jr.key(0))
    assert everything(policy, jr.key(0))[1].obs.shape == (5, 5)
    with pytest.raises(TypeError, match="NaN"):
        eqx.filter_grad(lambda policy: everything(policy, jr.key(0))[0])(policy)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"'standrd'. Closest: 'standard'"):
        rx.KheperaxTask("standrd")
    with pytest.raises(ValueError, match="Closest: 'target_pos'"):
        rx.KheperaxTask(target=True, env_kwargs={"target_position": (0.5, 0.5)})
    with pytest.raises(ValueError, match="have no 'target_pos'"):
        rx.KheperaxTask(env_kwargs={"target_pos": (0.5, 0.5)})
    with pytest.raises(TypeError, match="`target` of `KheperaxTask` must be True or"):
        rx.KheperaxTask("standard", target=1)  # pyright: ignore[reportArgumentType]
