"""Streams of steps for learners, extras of policies, and observations as they are."""

import functools
from typing import Any, override

import envelope
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx
from realax.policies import Decision
from realax.tasks.rl_policy import BasePolicy

from .helpers import close, same


class Sampler(BasePolicy[Any]):
    """Samples around an output, remembers its steps, and says how likely that was."""

    dims: int = eqx.field(static=True)
    scale: Any = 3.0

    def initialize(self, key: Any) -> Any:
        return jr.uniform(key)

    def __call__(self, obs: Any, state: Any, key: Any) -> Any:
        decision = self.decide(obs, state, key)
        return decision.output, decision.state

    @override
    def decide(self, obs: Any, state: Any, key: Any) -> Any:
        noise = self.scale * jr.normal(key, (self.dims,))
        extras = {"log_prob": -jnp.sum(noise**2), "age": state}
        return Decision(noise + state, state + 1, extras)


class Noisy(BasePolicy[Any]):
    """Draws what it needs beforehand: nothing, or numbers and a key."""

    kind: str | None = eqx.field(static=True)

    def initialize(self, key: Any) -> None:
        return None

    def __call__(self, obs: Any, state: Any, key: Any) -> Any:
        decision = self.decide(obs, state, self.noise_for(key, obs, state))
        return decision.output, decision.state

    @override
    def noise_for(self, key: Any, obs: Any, state: Any) -> Any:
        if self.kind != "several":
            return None if self.kind is None else ()
        first, second = jr.split(key)
        return {"number": jr.normal(first, (1,)), "key": second, "i": jr.bits(first)}

    @override
    def decide(self, obs: Any, state: Any, noise: Any) -> Any:
        if not noise:
            return Decision(obs[:1], state)
        drawn = noise["number"] + jr.uniform(noise["key"]) + noise["i"] / 2.0**32
        return Decision(drawn, state)


def _episodes(stream: int, rows: Any) -> list[Any]:
    """The rows of each whole episode of a stream."""
    rows = jax.tree.map(lambda x: np.asarray(x)[:, stream], rows)
    ends = np.flatnonzero(rows.terminated | rows.truncated)
    starts = [0, *(ends[:-1] + 1)]
    return [
        jax.tree.map(lambda x, a=a, b=b: x[a : b + 1], rows)
        for a, b in zip(starts, ends, strict=True)
    ]


@pytest.mark.parametrize(("name", "limit"), [("CartPole-v1", 40), ("Pendulum-v1", 15)])
def test_a_stream_is_one_episode_after_another(name: str, limit: int) -> None:
    task = rx.GymnaxTask(name, limit)
    policy = Sampler(task.space.action_dims)
    keys = jr.split(jr.key(0), 3)
    streams = task.begin_streams(policy, keys)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(streams))
    advance = eqx.filter_jit(functools.partial(task.advance_streams, steps=60))
    end, rows = advance(policy, streams)
    assert rows.reward.shape == (60, 3)
    play = eqx.filter_jit(task.rollout)
    environment = task.environment()
    for stream in range(3):
        episodes = _episodes(stream, rows)
        assert len(episodes) >= 2
        assert int(end.number[stream]) == len(episodes)
        for number, episode in enumerate(episodes):
            key = jr.fold_in(keys[stream], number)
            alone, length = play(policy, key), len(episode.reward)
            assert int(alone.valid.sum()) == length
            first = jax.tree.map(lambda x, n=length: x[:n], alone)
            for field in ("obs", "action", "reward", "terminated", "truncated"):
                assert close(getattr(episode, field), getattr(first, field)), field
            assert close(episode.extras, first.extras)
            # Its last observation is not lost to the next episode's first one.
            assert close(episode.next_obs[:-1], episode.obs[1:])
            state, _ = environment.init(jr.split(key, 3)[0])
            for action in episode.action:
                state, info = environment.step(state, action)
            assert close(episode.next_obs[-1], jnp.ravel(info.obs), 1e-3, 1e-3)


def test_a_long_episode_has_its_own_random_numbers() -> None:
    task = rx.GymnaxTask("Pendulum-v1", 200)
    policy = Sampler(1)
    keys = jr.split(jr.key(0), 2)
    # They are drawn for 16 steps of two streams at once.
    _, rows = task.advance_streams(policy, task.begin_streams(policy, keys), 150)
    for stream, key in enumerate(keys):
        alone = task.rollout(policy, jr.fold_in(key, 0))
        expected = alone.extras["log_prob"][:150]
        assert close(rows.extras["log_prob"][:, stream], expected)


@pytest.mark.parametrize("noise", [None, "empty", "several"])
def test_any_random_numbers_of_a_policy(noise: Any) -> None:
    task = rx.GymnaxTask("Pendulum-v1", 9)
    policy, keys = Noisy(noise), jr.split(jr.key(0), 3)
    _, rows = task.advance_streams(policy, task.begin_streams(policy, keys), 14)
    for stream, key in enumerate(keys):
        for number, part in enumerate((slice(0, 9), slice(9, 14))):
            alone = task.rollout(policy, jr.fold_in(key, number))
            expected = alone.action[: part.stop - part.start]
            assert close(rows.action[part, stream], expected)
    _, none = task.advance_streams(policy, task.begin_streams(policy, keys), 0)
    assert none.reward.shape == (0, 3)


def test_streams_go_on() -> None:
    task = rx.GymnaxTask("CartPole-v1", 20)
    policy = Sampler(2)
    start = task.begin_streams(policy, jr.split(jr.key(0), 4))
    end, rows = task.advance_streams(policy, start, 30)
    middle, first = task.advance_streams(policy, start, 11)
    found, second = task.advance_streams(policy, middle, 19)
    assert same(found, end)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
    assert same(both, rows)


def test_what_the_policy_said_and_what_was_done() -> None:
    task = rx.GymnaxTask("Pendulum-v1", 12)
    policy = Sampler(1, scale=9.0)
    streams = task.begin_streams(policy, jr.split(jr.key(0), 2))
    _, rows = task.advance_streams(policy, streams, 12)
    assert jnp.array_equal(jnp.clip(rows.output, -2, 2), rows.action)
    assert bool(jnp.any(rows.output != rows.action))
    assert rows.extras["log_prob"].shape == (12, 2)
    ages = rows.extras["age"] - rows.extras["age"][0]
    assert close(ages, jnp.broadcast_to(jnp.arange(12.0)[:, None], (12, 2)))
    choices = rx.GymnaxTask("CartPole-v1", 5)
    streams = choices.begin_streams(Sampler(2), jr.split(jr.key(0), 2))
    _, rows = choices.advance_streams(Sampler(2), streams, 5)
    assert jnp.array_equal(jnp.argmax(rows.output, -1), rows.action)


def test_extras_in_the_aux() -> None:
    task = rx.GymnaxTask(
        "CartPole-v1", 30, data_fn=lambda t: (t.extras["age"], t.valid)
    )
    _, (ages, valid) = task(Sampler(2), jr.key(3))
    assert 0 < int(valid.sum()) < 30
    assert not bool(jnp.any(ages[~valid])) and bool(jnp.all(ages[valid] > 0))
    normalized = rx.policies.no_obs(4).bind(Sampler(2))
    assert task(normalized, jr.key(3))[1][0].shape == (30,)


def test_extras_that_nobody_reads_cost_nothing() -> None:
    class Laborious(BasePolicy[None]):
        weights: Any
        busy: bool = eqx.field(static=True)

        def initialize(self, key: Any) -> None:
            return None

        def __call__(self, obs: Any, state: None, key: Any) -> Any:
            return self.weights @ obs, state

        @override
        def decide(self, obs: Any, state: None, key: Any) -> Any:
            extras = jnp.outer(obs, obs) @ jnp.ones((4, 500)) if self.busy else None
            return Decision(self.weights @ obs, state, extras)

    def work(busy: bool, lanes: int) -> Any:
        task = rx.GymnaxTask("CartPole-v1", 50, lanes=lanes)
        keys = jr.split(jr.key(0), (4, 2))
        many = jnp.zeros((4, 2, 4))
        play = lambda many: task.evaluate(Laborious(many, busy), keys)
        return jax.jit(play).lower(many).compile().cost_analysis()

    for lanes in 0, 3:
        assert work(True, lanes) == work(False, lanes)


class Pixels(BasePolicy[None]):
    """A convolution over what it sees."""

    conv: eqx.nn.Conv2d
    head: eqx.nn.Linear

    def __init__(self, shape: tuple[int, ...], actions: int, key: Any):
        *size, channels = shape
        self.conv = eqx.nn.Conv2d(channels, 2, 3, padding=1, key=key)
        self.head = eqx.nn.Linear(2 * size[0] * size[1], actions, key=key)

    def initialize(self, key: Any) -> None:
        return None

    def __call__(self, obs: Any, state: None, key: Any) -> Any:
        image = jnp.moveaxis(obs.astype(float), -1, 0)
        return self.head(jnp.ravel(jax.nn.relu(self.conv(image)))), None


@pytest.mark.parametrize("lanes", [0, 3])
def test_pixels(lanes: int) -> None:
    task = rx.make("Breakout-MinAtar", max_steps=20, flatten_obs=False, lanes=lanes)
    assert task.obs_shape.shape == (10, 10, 4) and task.space.obs_dims == 400
    make = lambda key: Pixels(task.obs_shape.shape, task.space.action_dims, key)
    policy = make(jr.key(0))
    episode = eqx.filter_jit(task.rollout)(policy, jr.key(1))
    assert episode.obs.shape == (20, 10, 10, 4)
    assert episode.obs.dtype == task.obs_shape.dtype
    flat = rx.GymnaxTask("Breakout-MinAtar", 20)
    assert (flat.obs_shape.shape, flat.obs_shape.dtype) == ((400,), jnp.float32)
    start = lambda task: task.rules().begin(policy, jr.key(0), jr.key(0)).obs
    assert close(start(flat), jnp.ravel(start(task)).astype(float))
    trainer = rx.EvosaxTrainer(2, "SNES", task, policy, popsize=4, eval_reps=2)
    state, data = trainer.init_and_train(jr.key(0))
    assert data["metrics"]["fitness"].shape == (2, 4)
    assert isinstance(trainer.params(state), Pixels)
    streams = task.begin_streams(policy, jr.split(jr.key(0), 2))
    _, rows = task.advance_streams(policy, streams, 3)
    assert rows.next_obs.shape == (3, 2, 10, 10, 4)


class Named(envelope.Environment):
    """Its observation has two named parts, one of them a choice."""

    def init(self, key: Any) -> Any:
        return jr.normal(key, (3,)), self._info(jnp.ones(3), 0)

    def step(self, state: Any, action: Any) -> Any:
        return state + action, self._info(state, 1)

    def _info(self, x: Any, side: Any) -> Any:
        obs = {"x": x, "side": jnp.asarray(side)}
        return envelope.InfoContainer(obs=obs, reward=x[0], terminated=False)

    @property
    def observation_space(self) -> Any:
        low = envelope.Continuous.from_shape(-jnp.inf, jnp.inf, (3,))
        return envelope.PyTreeSpace({"x": low, "side": envelope.Discrete(n=2)})

    @property
    def action_space(self) -> Any:
        return envelope.Continuous.from_shape(-1.0, 1.0, (1,))


class Reader(BasePolicy[None]):
    weights: Any

    def initialize(self, key: Any) -> None:
        return None

    def __call__(self, obs: Any, state: None, key: Any) -> Any:
        return jnp.where(obs["side"] == 1, obs["x"] @ self.weights, 0.0)[None], None


def test_a_dictionary() -> None:
    task = rx.EnvelopeTask(Named(), 6, flatten_obs=False)
    assert set(task.obs_shape) == {"x", "side"}
    assert task.obs_shape["x"].shape == (3,) and task.space.obs_dims == 5
    policy = Reader(jnp.ones(3))
    episode = task.rollout(policy, jr.key(0))
    assert episode.obs["x"].shape == (6, 3) and episode.obs["side"].tolist()[1] == 1
    many = Reader(jnp.ones((4, 3)))
    values, _ = task.evaluate(many, jr.split(jr.key(0), (4, 2)))
    assert values.shape == (4, 2)
    flat = rx.EnvelopeTask(Named(), 6)
    assert flat.obs_shape.shape == (5,)


def test_flat_already() -> None:
    """On brax and on CartPole an observation is a vector anyway."""
    for make in (
        functools.partial(rx.BraxTask, "fast", 8, backend="spring"),
        functools.partial(rx.GymnaxTask, "CartPole-v1", 8),
    ):
        policy = Sampler(make().space.action_dims)
        whole, flat = (make(flatten_obs=f)(policy, jr.key(0)) for f in (False, True))
        assert same(whole, flat)


def test_what_needs_flat_observations() -> None:
    for make in (
        functools.partial(rx.GymnaxTask, "CartPole-v1"),
        functools.partial(rx.EnvelopeTask, Named(), 5),
        functools.partial(rx.BraxTask, "fast", backend="spring"),
    ):
        with pytest.raises(ValueError, match="`normalize_obs` needs flat"):
            make(normalize_obs=True, flatten_obs=False)
    with pytest.raises(TypeError, match="`flatten_obs` of `GymnaxTask`"):
        rx.make("CartPole-v1", flatten_obs=1)
