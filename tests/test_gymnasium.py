"""Tasks on gymnasium's environments."""

from typing import Any

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx

from .gym_envs import Breaks, Images, Leaky, Mixed, Pair, Shapes, Walk, Whole


def policies(task: Any, number: int, seed: int = 0) -> Any:
    make = lambda key: rx.MLPPolicy(*task.space[:2], 8, 1, key=key)
    return eqx.filter_vmap(make)(jr.split(jr.key(seed), number))


def one_of(population: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i] if eqx.is_array(x) else x, population)


def by_hand(env: Any, policy: Any, key: Any, most: int) -> tuple[float, int, Any]:
    """Play an episode of `Walk` with a plain loop, and numpy alone for the policy."""
    env_key, _, _ = jr.split(key, 3)
    obs, _ = env.reset(seed=int(jr.key_data(env_key)[-1]) & 0x7FFFFFFF)
    seen, total = [obs], 0.0
    for length in range(1, most + 1):
        x = np.asarray(obs, np.float32)
        for layer in policy.mlp.layers[:-1]:
            x = np.tanh(np.asarray(layer.weight) @ x + np.asarray(layer.bias))
        last = policy.mlp.layers[-1]
        scores = np.asarray(last.weight) @ x + np.asarray(last.bias)
        obs, reward, terminated, truncated, _ = env.step(int(np.argmax(scores)) - 1)
        total += reward
        if terminated or truncated or length == most:
            return total, length, np.stack(seen)
        seen.append(obs)
    raise AssertionError


@pytest.mark.parametrize("lanes", [None, 1, 5])
def test_episodes_are_those_of_a_plain_loop(lanes: Any) -> None:
    task = rx.GymnasiumTask(Walk, 7, lanes=lanes)
    population, keys = policies(task, 6), jr.split(jr.key(1), (6, 3))
    values, aux = task.evaluate(population, keys)
    env, lengths = Walk(), set[int]()
    for i in range(6):
        for r in range(3):
            total, length, _ = by_hand(env, one_of(population, i), keys[i, r], 7)
            assert np.isclose(values[i, r], total, rtol=1e-5)
            assert aux["length"][i, r] == length
            lengths.add(length)
    assert len(lengths) > 3 and max(lengths) == 7


def test_one_call_and_its_trajectory() -> None:
    task = rx.GymnasiumTask(Walk, 20)
    policy, key = one_of(policies(task, 1), 0), jr.key(5)
    value, aux = task(policy, key)
    total, length, seen = by_hand(Walk(), policy, key, 20)
    steps = task.rollout(policy, key)
    assert np.isclose(value, total) and aux["length"] == length
    assert steps.obs.shape == (20, 2) and steps.valid.sum() == length < 20
    assert np.allclose(steps.obs[:length], seen) and not steps.obs[length:].any()
    assert np.isclose(steps.reward.sum(), value)
    assert steps.terminated[length - 1] and not steps.truncated.any()
    short = rx.GymnasiumTask(Walk, 2).rollout(policy, key)
    assert short.truncated.tolist() == [False, True] and not short.terminated.any()
    assert short.action.dtype == jnp.int32 and ((0 <= short.action) < 3).all()


def test_workers_change_nothing(optimized: None) -> None:
    outcomes: list[Any] = []
    for kws in {"workers": 0}, {"workers": 2}, {"workers": 2, "backend": "threads"}:
        with rx.GymnasiumTask("CartPole-v1", 60, normalize_obs=True, **kws) as task:
            assert task.obs_stats is not None
            population = task.obs_stats.bind_population(policies(task, 7), 7)
            keys = jr.split(jr.key(2), (7, 2))
            outcomes.append(task.evaluate_and_observe(population, keys))
    for other in outcomes[1:]:
        equal = jax.tree.map(jnp.array_equal, outcomes[0], other)
        assert jax.tree.all(equal), equal


@pytest.mark.parametrize("sizes", [(2, 32, 2), (2, 100, 1)])
def test_a_policy_does_not_depend_on_its_lane(sizes: Any, optimized: None) -> None:
    """Bit for bit, with any number of lanes and any position."""
    task = rx.GymnasiumTask(Walk, 20)
    make = lambda key: rx.MLPPolicy(2, 3, *sizes[1:], key=key)
    population = eqx.filter_vmap(make)(jr.split(jr.key(3), 9))
    keys = jr.split(jr.key(1), (9, 1))
    whole, _ = task.evaluate(population, keys)
    for lanes in 1, 2, 3, 8:
        other = rx.GymnasiumTask(Walk, 20, lanes=lanes)
        assert jnp.array_equal(other.evaluate(population, keys)[0], whole), lanes
    alone = [task(one_of(population, i), keys[i, 0])[0] for i in range(9)]
    assert jnp.array_equal(jnp.stack(alone), whole[:, 0])


def test_statistics_of_observations() -> None:
    task = rx.GymnasiumTask(Walk, 7, normalize_obs=True)
    assert task.obs_stats is not None
    population, keys = policies(task, 3), jr.split(jr.key(1), (3, 5))
    bound = task.obs_stats.bind_population(population, 3)
    result = task.evaluate_and_observe(bound, keys)
    assert result.moments is not None
    stats = task.obs_stats.absorb(result.moments)
    rows = [
        np.asarray(steps.obs)[np.asarray(steps.valid)]
        for i in range(3)
        for r in range(5)
        for steps in [task.rollout(one_of(bound, i), keys[i, r])]
    ]
    seen = np.concatenate(rows)
    assert stats.count == len(seen)
    assert np.allclose(stats.mean, seen.mean(0), atol=1e-5)
    assert np.allclose(stats.spread / stats.count, seen.var(0), rtol=1e-4)
    trained, _, _ = rx.evolve(
        one_of(population, 0), task, jr.key(0), strategy="SNES", steps=2, popsize=4
    )
    assert isinstance(trained, rx.NormalizedPolicy)
    assert task(trained, jr.key(0))[0].shape == ()


def test_spaces_of_many_parts() -> None:
    task = rx.GymnasiumTask(Mixed, 6)
    assert task.space == (2 + 3 + 2 * 2, 2 + 3 + 2, False)
    values, _ = task.evaluate(policies(task, 4), jr.split(jr.key(1), (4, 2)))
    assert np.isfinite(values).all()  # the environment checks its actions
    steps = task.rollout(one_of(policies(task, 1), 0), jr.key(0))
    lamp = np.asarray(steps.obs)[np.asarray(steps.valid)]
    assert np.allclose(lamp[:, :-2].sum(1), 2 + 1)  # bits and lamp are one-hot
    tree = rx.GymnasiumTask(Mixed, 6, flatten_obs=False)
    assert tree.obs_shape["walk"] == jax.ShapeDtypeStruct((2,), jnp.float32)

    class Reads(rx.BasePolicy[Any]):
        def initialize(self, key: Any) -> Any:
            return jnp.zeros(())

        def __call__(self, obs: Any, state: Any, key: Any) -> Any:
            action = obs["walk"][0] * jnp.ones(7) + jr.normal(key, (7,))
            return action, state + obs["lamp"]

    values, _ = tree.evaluate(Reads(), jr.split(jr.key(1), (1, 3)))
    assert np.isfinite(values).all() and len(set(values.ravel().tolist())) == 3


def test_a_policy_with_memory() -> None:
    """Its state is that of its own episode, when a lane takes the next one."""
    policy = rx.RNNPolicy(2, 3, 6, key=jr.key(0))
    population = jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, policy)
    keys = jr.split(jr.key(1), (1, 9))
    few, _ = rx.GymnasiumTask(Walk, 9, lanes=2).evaluate(population, keys)
    task = rx.GymnasiumTask(Walk, 9)
    alone = [task(policy, keys[0, r])[0] for r in range(9)]
    assert np.allclose(few[0], np.array(alone), rtol=1e-6)


class Draws(rx.BasePolicy[Any]):
    """Its actions depend on all that it is given."""

    def initialize(self, key: Any) -> Any:
        return jr.normal(key, (3,))

    def __call__(self, obs: Any, state: Any, key: Any) -> Any:
        return state + obs[0] + jr.normal(key, (3,)), 0.9 * state


def test_the_last_episodes_have_their_own_memory_and_keys() -> None:
    """Of more than eight lanes, the last eight are played by smaller calls."""
    keys = jr.split(jr.key(1), (1, 20))
    whole, aux = rx.GymnasiumTask(Walk, 30).evaluate(Draws(), keys)
    one, _ = rx.GymnasiumTask(Walk, 30, lanes=1).evaluate(Draws(), keys)
    assert np.allclose(whole, one, rtol=1e-6)
    assert len(set(aux["length"].ravel().tolist())) > 5


def test_environments_that_depend_on_the_past() -> None:
    keys = jr.split(jr.key(1), (6, 1))
    assert rx.GymnasiumTask(Walk, 7).check(4) == []
    task = rx.GymnasiumTask(Leaky, 7)
    with pytest.warns(RuntimeWarning, match=r"3 of 4 episodes.*fresh=True"):
        assert task.check(4) == [1, 2, 3]
    population = policies(task, 6)
    first, _ = task.evaluate(population, keys)
    assert not np.array_equal(task.evaluate(population, keys)[0], first)
    fresh = rx.GymnasiumTask(Leaky, 7, fresh=True)
    first, _ = fresh.evaluate(population, keys)
    assert np.array_equal(fresh.evaluate(population, keys)[0], first)
    assert fresh.check(4) == [1, 2, 3]  # without a warning


def test_errors_of_an_environment() -> None:
    task = rx.GymnasiumTask(Breaks, 9)
    population, keys = policies(task, 6), jr.split(jr.key(1), (6, 2))
    with pytest.raises(ArithmeticError, match="broken") as info:
        task.evaluate(population, keys)
    assert "individual" in "\n".join(info.value.__notes__)
    task = rx.GymnasiumTask(Breaks, 9, errors="nan", lanes=3)
    with pytest.warns(RuntimeWarning, match="it raised ArithmeticError"):
        values, aux = task.evaluate(population, keys)
    whole, _ = rx.GymnasiumTask(Walk, 9).evaluate(population, keys)
    good = np.isfinite(values)
    assert 0 < good.sum() < 12 and np.array_equal(values[good], whole[good])
    assert ((aux["length"] > 0) == good).all()
    policy = rx.MLPPolicy(3, 3, 4, 1, key=jr.key(0))
    with pytest.raises(ValueError, match="built with `obs_dims=3`"):
        rx.GymnasiumTask(Walk, 9)(policy, jr.key(0))


def test_observations_that_are_not_of_their_space() -> None:
    task = rx.GymnasiumTask(Whole, 9)
    steps = task.rollout(one_of(policies(task, 1), 0), jr.key(0))
    seen = np.asarray(steps.obs)[np.asarray(steps.valid)]
    assert (seen[0] == 0).all() and (seen[1:, 0] % 1 != 0).any()
    task = rx.GymnasiumTask(Shapes, 9, errors="nan")
    with pytest.warns(RuntimeWarning, match=r"must have the shape \(2,\)"):
        values, _ = task.evaluate(policies(task, 6), jr.split(jr.key(1), (6, 2)))
    assert 0 < np.isfinite(values).sum() < 12


def test_environments_are_closed() -> None:
    built: list[Any] = []

    class Counts(Walk):
        def __init__(self) -> None:
            super().__init__()
            built.append(self)

        def close(self) -> None:
            built.remove(self)

    with rx.GymnasiumTask(Counts, 9) as task:
        population, keys = policies(task, 3), jr.split(jr.key(1), (3, 1))
        task.evaluate(population, keys)
        assert len(built) == 3
        task.rollout(one_of(population, 0), keys[0, 0])
        task.check(2)
        assert len(built) == 3
    assert not built


def test_a_run_and_a_name() -> None:
    task = rx.make("gymnasium::CartPole-v1", max_steps=20)
    assert isinstance(task, rx.GymnasiumTask) and task.max_steps == 20
    assert task.space == (4, 2, True)
    assert rx.ENV_SPACES["gymnasium::CartPole-v1"] == (4, 2, True)
    policy = rx.MLPPolicy(4, 2, 4, 1, key=jr.key(0))
    _, _, data = rx.evolve(policy, task, jr.key(0), steps=3, popsize=6)
    assert data["metrics"]["eval_data"]["length"].max() == 20
    assert rx.GymnasiumTask("CartPole-v1").max_steps == 500


@pytest.mark.parametrize(
    "env, kws, error, message",
    [
        ("CartPol-v1", {}, ValueError, "no gymnasium environment.*'CartPole-v1'"),
        (Walk, {}, ValueError, "no limit of steps.*Pass `max_steps`"),
        (Walk(), {"max_steps": 3}, TypeError, "but got one instance.*lambda: Walk"),
        (3, {"max_steps": 3}, TypeError, "a name or a function"),
        (lambda: 3, {"max_steps": 3}, TypeError, "must make a `gymnasium.Env`"),
        (Pair, {"max_steps": 3}, TypeError, "several agents"),
        (Images, {"max_steps": 3}, ValueError, "too large to flatten.*flatten_obs"),
        (Walk, {"max_steps": 0}, ValueError, "`max_steps`.*at least 1"),
        (Walk, {"max_steps": 3, "env_kwargs": {"a": 1}}, ValueError, "given by name"),
        (Walk, {"max_steps": 3, "lanes": 0}, ValueError, "`lanes`.*at least 1"),
        (
            Walk,
            {"max_steps": 3, "workers": 1, "backend": "ray", "timeout": 1},
            ValueError,
            "an actor of Ray does not tell",
        ),
        (Walk, {"max_steps": 3, "worker": 1}, TypeError, "no argument `worker`"),
        (
            lambda: gymnasium.make_vec("CartPole-v1", 2),
            {"max_steps": 3},
            TypeError,
            "`VectorEnv`",
        ),
    ],
)
def test_wrong_arguments(env: Any, kws: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        rx.GymnasiumTask(env, **kws)


def test_images_unflattened() -> None:
    task = rx.GymnasiumTask(Images, 3, flatten_obs=False)
    assert task.obs_shape == jax.ShapeDtypeStruct((96, 96, 3), jnp.uint8)

    class Looks(rx.BasePolicy[None]):
        weight: Any

        def initialize(self, key: Any) -> None:
            return None

        def __call__(self, obs: Any, state: None, key: Any) -> Any:
            return self.weight * obs.mean(), state

    assert np.isfinite(task(Looks(jnp.ones(3)), jr.key(0))[0])
