"""Every environment by its name, and their rewards held against the suites' own."""

from typing import Any

import equinox as eqx
import gymnax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from envelope import Continuous, Discrete, Environment, InfoContainer
from envelope.struct import field

import realax as rx
from realax.tasks.rl_policy import BasePolicy


GYMNAX = [name for name in gymnax.registered_envs if "MNIST" not in name]
STEPS = 60


class Dice(BasePolicy[None]):
    """Random outputs from the step's own key."""

    dims: int = eqx.field(static=True)

    def initialize(self, key: Any) -> None:
        return None

    def __call__(self, obs: Any, state: None, key: Any) -> Any:
        return jr.normal(key, (self.dims,)), None


def _flat(space: Any, obs: Any) -> Any:
    if isinstance(space, gymnax.environments.spaces.Discrete):
        return jax.nn.one_hot(obs, space.n)
    return jnp.ravel(obs).astype(float)


@pytest.mark.parametrize("name", GYMNAX)
def test_gymnax_rewards(name: str) -> None:
    """The same as a loop over gymnax's own `reset_env` and `step_env`."""
    env, params = gymnax.make(name)
    task = rx.GymnaxTask(name, max_steps=min(STEPS, rx.GymnaxTask(name).max_steps))
    key = jr.key(7)
    episode = eqx.filter_jit(task.rollout)(Dice(task.space.action_dims), key)

    seen = lambda obs: _flat(env.observation_space(params), obs)
    length = int(episode.valid.sum())
    found = jax.tree.map(lambda x: np.asarray(x)[:length], episode)

    @jax.jit
    def by_hand(key: Any, actions: Any) -> Any:
        reset_key, step_key = jr.split(jr.split(key, 3)[0])
        obs, state = env.reset_env(reset_key, params)

        def step(carry: Any, now: Any) -> Any:
            (before, state), (t, action) = carry, now
            step_t = jr.fold_in(step_key, t)
            obs, state, reward, done, _ = env.step_env(step_t, state, action, params)
            over = done, env.is_truncated(state, params)
            return (seen(obs), state), (before, reward, *over)

        steps = jnp.arange(length), actions
        return jax.lax.scan(step, (seen(obs), state), steps)[1]

    obs, reward, done, truncated = map(np.asarray, by_hand(key, found.action))
    assert np.allclose(found.obs, obs, atol=1e-4)
    assert np.allclose(found.reward, reward, atol=1e-4)
    assert np.array_equal(found.terminated, done.astype(bool))
    late = np.arange(length) + 1 >= task.max_steps
    assert np.array_equal(found.truncated, truncated.astype(bool) | late)
    assert found.terminated[-1] | found.truncated[-1]


@eqx.filter_jit
def _play(task: Any, policy: Any) -> Any:
    """One program for each environment, whatever its parameters."""
    return task.rollout(policy, jr.key(11))


class Balance(BasePolicy[None]):
    """Pushes to where the pole falls, which keeps CartPole up to its limit."""

    def initialize(self, key: Any) -> None:
        return None

    def __call__(self, obs: Any, state: None, key: Any) -> Any:
        return jnp.stack([jnp.zeros(()), obs[2] + obs[3]]), None


class Still(BasePolicy[None]):
    """The same outputs in every step."""

    outputs: tuple[float, ...] = eqx.field(static=True)

    def initialize(self, key: Any) -> None:
        return None

    def __call__(self, obs: Any, state: None, key: Any) -> Any:
        return jnp.asarray(self.outputs), None


# Policies under which an episode ends by the environment's own limit alone.
SURVIVORS = [
    ("CartPole-v1", Balance(), 500),
    ("Acrobot-v1", Still((0.0, 1.0, 0.0)), 500),
    ("MountainCar-v0", Still((0.0, 1.0, 0.0)), 200),
    ("MountainCarContinuous-v0", Still((0.0,)), 999),
    ("Pendulum-v1", Still((0.0,)), 200),
]


@pytest.mark.parametrize(("name", "policy", "limit"), SURVIVORS)
def test_gymnax_time_limits(name: str, policy: Any, limit: int) -> None:
    """Truncated where gymnax's own `step` says so, at the end of a whole episode."""
    env, params = gymnax.make(name)
    task = rx.GymnaxTask(name)
    assert task.max_steps == limit
    episode = jax.tree.map(np.asarray, _play(task, policy))
    assert int(episode.valid.sum()) == limit
    assert not np.any(episode.terminated)
    key = jr.key(11)

    def step(carry: Any, _: None) -> Any:
        output, _ = policy(carry[0], None, key)
        action = jnp.argmax(output) if task.space.discrete else output
        obs, state, *rest, _ = env.step(key, carry[1], action, params)
        return (obs, state), rest

    @jax.jit
    def by_hand() -> Any:
        start = env.reset_env(jr.split(jr.split(key, 3)[0])[0], params)
        return jax.lax.scan(step, start, length=limit)[1]

    reward, terminated, truncated = map(np.asarray, by_hand())
    assert not np.any(terminated)
    assert truncated.tolist() == [False] * (limit - 1) + [True]
    assert episode.truncated.tolist() == truncated.tolist()
    assert np.allclose(episode.reward, reward, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "policy", "limit"), SURVIVORS)
def test_gymnax_limit_below_the_horizon(name: str, policy: Any, limit: int) -> None:
    """The environment's own limit ends an episode that `max_steps` lets go on."""
    own = lambda task: task.env_params.max_steps_in_episode
    task = rx.GymnaxTask(name)
    for lower in (70, 90):
        shorter = eqx.tree_at(own, task, jnp.full_like(own(task), lower))
        episode = jax.tree.map(np.asarray, _play(shorter, policy))
        assert episode.truncated.shape == (limit,)
        assert int(episode.valid.sum()) == lower
        assert np.flatnonzero(episode.truncated).tolist() == [lower - 1]
        assert not np.any(episode.terminated)


def test_gymnax_limit_of_ones_own() -> None:
    for limit in (61, 260):
        params = {"max_steps_in_episode": limit}
        task = rx.GymnaxTask("Pendulum-v1", env_params=params)
        episode = _play(task, Still((0.0,)))
        assert episode.truncated.tolist() == [False] * (limit - 1) + [True]
        assert bool(jnp.all(episode.valid))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("inverted_pendulum", "generalized"),
        ("reacher", "positional"),
        ("hopper", "spring"),
        ("fast", "positional"),
    ],
)
@pytest.mark.filterwarnings("ignore:Brax System:UserWarning")
def test_brax_rewards(name: str, backend: str) -> None:
    task = rx.BraxTask(name, max_steps=30, backend=backend)
    import brax.envs  # after realax has imported it, without its warnings

    env = brax.envs.get_environment(name, backend=backend)
    key = jr.key(7)
    episode = eqx.filter_jit(task.rollout)(Dice(task.space.action_dims), key)
    length = int(episode.valid.sum())
    found = jax.tree.map(lambda x: np.asarray(x)[:length], episode)

    @jax.jit
    def by_hand(key: Any, actions: Any) -> Any:
        def step(state: Any, action: Any) -> Any:
            after = env.step(state, action)
            return after, (state.obs, after.reward, after.done)

        return jax.lax.scan(step, env.reset(jr.split(key, 3)[0]), actions)[1]

    obs, reward, done = map(np.asarray, by_hand(key, found.action))
    assert np.allclose(found.obs, obs, atol=1e-2)
    assert np.allclose(found.reward, reward, atol=1e-2)
    assert np.array_equal(found.terminated, done.astype(bool))
    assert length == 30 or found.terminated[-1]


def test_spaces_of_gymnax() -> None:
    for name in GYMNAX:
        space, (env, params) = rx.ENV_SPACES[name], gymnax.make(name)
        obs, _ = jax.eval_shape(env.reset_env, jr.key(0), params)
        flat = jax.eval_shape(
            lambda obs, e=env, p=params: _flat(e.observation_space(p), obs), obs
        )
        assert space.obs_dims == flat.size, name
        actions = env.action_space(params)
        assert space.discrete == hasattr(actions, "n"), name
        assert space.action_dims == (
            actions.n if space.discrete else np.prod(actions.shape)
        )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Brax System:UserWarning")
def test_spaces_of_brax(monkeypatch: Any) -> None:
    assert rx.ENV_SPACES["fast"] == (2, 1, False)
    import brax.envs  # after realax has imported it, without its warnings
    from envelope.adapters.brax_envelope import BraxEnvelope

    for name in BraxEnvelope.registered_names():
        env = brax.envs.get_environment(name, backend="generalized")
        obs_dims = jax.eval_shape(env.reset, jr.key(0)).obs.shape[-1]
        # brax counts the observations of a reset, which it plays in hundreds of small
        # programs, each to be compiled. Tracing it says the same.
        monkeypatch.setattr(type(env), "observation_size", obs_dims)
        space = rx.ENV_SPACES[name]
        assert space == (obs_dims, env.action_size, False), name


class Walk(Environment):
    """A walk on a line from 0: +1 for each step to the right, over beyond `width`."""

    width: Any = field(default=3.0)

    def init(self, key: Any) -> Any:
        return jnp.zeros(()), InfoContainer(
            obs=jnp.zeros(1), reward=0.0, terminated=False
        )

    def step(self, state: Any, action: Any) -> Any:
        state = state + 2.0 * action - 1.0
        return state, InfoContainer(
            obs=state[None], reward=2.0 * action - 1.0, terminated=state >= self.width
        )

    @property
    def observation_space(self) -> Any:
        return Continuous.from_shape(-jnp.inf, jnp.inf, (1,))

    @property
    def action_space(self) -> Any:
        return Discrete(n=2)


class Right(BasePolicy[None]):
    score: Any

    def initialize(self, key: Any) -> None:
        return None

    def __call__(self, obs: Any, state: None, key: Any) -> Any:
        return jnp.stack([jnp.zeros(()), self.score]), None


def test_an_own_environment() -> None:
    task = rx.make(Walk(), max_steps=10)
    assert task.space == (1, 2, True)
    value, aux = task(Right(jnp.asarray(1.0)), jr.key(0))
    assert (float(value), int(aux["length"])) == (3, 3)
    value, aux = task(Right(jnp.asarray(-1.0)), jr.key(0))
    assert (float(value), int(aux["length"])) == (-10, 10)
    wide = eqx.tree_at(lambda t: t.env.width, task, jnp.asarray(5.0))
    assert float(wide(Right(jnp.asarray(1.0)), jr.key(0))[0]) == 5
    with pytest.raises(ValueError, match="`max_steps` must be given"):
        rx.make(Walk())


def test_make_finds_the_class() -> None:
    assert isinstance(rx.make("CartPole-v1", max_steps=7), rx.GymnaxTask)
    assert rx.make("gymnax::CartPole-v1", max_steps=7).max_steps == 7
    assert isinstance(rx.make("brax::fast"), rx.BraxTask)
    assert isinstance(rx.make(gymnax.make("CartPole-v1")[0]), rx.GymnaxTask)
    assert isinstance(rx.make(Walk(), max_steps=5), rx.EnvelopeTask)


@pytest.mark.parametrize("name", ["Snake-v1", "Maze-v0"])
def test_jumanji(name: str) -> None:
    jumanji = pytest.importorskip("jumanji")
    env = jumanji.make(name)
    task = rx.make(f"jumanji::{name}", max_steps=20)
    key = jr.key(3)
    episode = eqx.filter_jit(task.rollout)(Dice(task.space.action_dims), key)
    length = int(episode.valid.sum())
    found = jax.tree.map(lambda x: np.asarray(x)[:length], episode)

    @jax.jit
    def by_hand(key: Any, actions: Any) -> Any:
        def step(carry: Any, action: Any) -> Any:
            state, after = env.step(carry[0], action)
            before = jnp.sum(carry[1].grid) if name == "Snake-v1" else 0.0
            return (state, after.observation), (before, after.reward, after.last())

        state, first = env.reset(jr.split(key, 3)[0])
        return jax.lax.scan(step, (state, first.observation), actions)[1]

    grid, reward, last = map(np.asarray, by_hand(key, found.action))
    if name == "Snake-v1":
        # Beside the grid one 1 for the step count, and for each of four actions.
        assert np.allclose(found.obs.sum(-1), grid + 5, atol=1e-3)
    assert np.allclose(found.reward, reward)
    assert np.array_equal(found.terminated, last)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("CartPole", ValueError, "'CartPole-v1'"),
        ("nosuchsuite::Snake-v1", ValueError, "'suite::name'"),
        ("jumanji::Snake", ValueError, "'Snake-v1'"),
        ("gymnax::CartPole", ValueError, "'CartPole-v1'"),
        ("brax::antt", ValueError, "'ant'"),
        ("craftax::Craftax-Symbolic-v1", ImportError, r"realax\[craftax\]"),
        (3.0, TypeError, "envelope.Environment"),
    ],
)
def test_unknown_names(name: Any, error: Any, words: str) -> None:
    if error is ImportError and _installed("craftax"):
        pytest.skip("the suite is here")
    with pytest.raises(error, match=words):
        rx.make(name)


def _installed(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None
