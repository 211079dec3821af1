"""The laws that every reinforcement learner obeys, over the table in `learners.py`."""

from typing import Any, override

import envelope
import equinox as eqx
import gymnax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx

from .learners import LEARNERS, Learner
from .probes import ACTIONS, VALUES, Probe, of_kind, with_kind


every = pytest.mark.parametrize("learner", LEARNERS, ids=lambda row: row.name)


@every
@pytest.mark.parametrize("discrete", [True, False], ids=["discrete", "continuous"])
@pytest.mark.usefixtures("optimized")  # learning takes as long as compiling
def test_probes(learner: Learner, discrete: bool) -> None:
    """The known values and actions are found, within 0.1."""
    if not (learner.discrete if discrete else learner.continuous):
        pytest.skip("not an action space of this learner")
    trainer = learner.make(Probe(jnp.asarray(0), discrete))

    def run(kind: Any, key: Any) -> Any:
        return with_kind(trainer, kind).init_and_train_(key)

    keys = jr.split(jr.key(0), 5)
    states = jax.jit(jax.vmap(run))(jnp.arange(5), keys)

    @eqx.filter_jit
    def value_of(state: Any, obs: Any) -> Any:
        return learner.value(trainer, state, obs)

    @eqx.filter_jit
    def action_at(state: Any, obs: Any) -> Any:
        policy = trainer.params(state)
        return policy(obs, policy.initialize(jr.key(0)), jr.key(0))[0]

    for kind, obs, value in VALUES:
        found = value_of(of_kind(states, kind), np.asarray([obs], np.float32))
        assert abs(float(found) - value) < 0.1, (kind, obs, float(found))
    for kind, obs, side in ACTIONS:
        found = action_at(of_kind(states, kind), np.asarray([obs], np.float32))
        action = np.asarray(found)
        if discrete:
            chosen = np.argmax(action) if action.ndim else action
            assert int(chosen) == (side > 0), (kind, obs)
        else:
            assert abs(float(action[0]) - 0.5 * side) < 0.1, (kind, obs, action)


class Faulty(envelope.Environment):
    """Counts to 10, and now and then shows or rewards NaN, which would never end."""

    @override
    def init(self, key: Any) -> Any:
        obs = jnp.where(jr.uniform(jr.fold_in(key, 99)) < 0.05, jnp.nan, jnp.zeros(1))
        state = {"t": jnp.zeros(()), "key": key}
        return state, envelope.InfoContainer(
            obs=obs, reward=jnp.zeros(()), terminated=jnp.asarray(False)
        )

    @override
    def step(self, state: Any, action: Any) -> Any:
        key = jr.fold_in(state["key"], state["t"].astype(jnp.int32))
        fault = jr.uniform(key) < 0.05
        t = jnp.where(fault, jnp.nan, state["t"] + 1)
        reward = jnp.where(jr.uniform(jr.fold_in(key, 1)) < 0.05, jnp.inf, 1.0)
        return {"t": t, "key": state["key"]}, envelope.InfoContainer(
            obs=t[None], reward=reward, terminated=t >= 10
        )

    observation_space = property(
        lambda self: envelope.Continuous.from_shape(-jnp.inf, jnp.inf, (1,))
    )
    action_space = property(lambda self: envelope.Discrete(n=2))


# SAC plays and stores as DQN does, and its loss with failed steps is that of numpy.
@pytest.mark.parametrize(
    "learner",
    [row for row in LEARNERS if row.discrete and row.name != "SAC"],
    ids=lambda row: row.name,
)
def test_an_environment_that_returns_nan(learner: Learner) -> None:
    """It is counted, episodes go on with the next one, and learning is not harmed."""
    # The scale of rewards, which PPO alone has, must not learn of the faults either.
    more = {"scale_rewards": True} if learner.name == "PPO" else {}
    trainer = learner.make(
        Faulty(), total_timesteps=20 * 64, max_steps=1000, normalize_obs=True, **more
    )
    state, data = trainer.init_and_train(jr.key(0))
    metrics = jax.tree.map(np.asarray, data["metrics"])
    assert np.all(metrics["failed"] > 0)
    assert np.all(metrics["failed"] < 20)
    assert int(metrics["skipped"][-1]) == 0
    for name, values in metrics.items():
        assert np.isfinite(values).all(), name
    # An environment may show NaN at the moment. All else is finite: networks, their
    # optimisers and targets, statistics, and what is stored.
    learned = eqx.tree_at(lambda one: one.streams, state, None)
    learned = eqx.filter(learned, eqx.is_inexact_array)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(learned))
    if learner.name == "PPO":
        assert int(state.reward_scale.stats.count) == 20 * 64, "faults count as 0"
    # A fault ends an episode, so that none lasts longer than ten steps.
    assert np.all(metrics["episode_length"] <= 10)


@every
def test_wrong_environments(learner: Learner) -> None:
    task = rx.GymnaxTask("CartPole-v1", 20, data_fn=lambda trajectory: trajectory)
    with pytest.raises(ValueError, match="`env` must be a task without `data_fn`"):
        type(learner.make(Probe(discrete=learner.discrete)))(
            task, total_timesteps=10_000
        )
    made = rx.GymnaxTask("CartPole-v1", 20, model_factory=lambda params: params)
    with pytest.raises(ValueError, match="without `model_factory`.*Pass the network"):
        type(learner.make(Probe(discrete=learner.discrete)))(
            made, total_timesteps=10_000
        )
    with pytest.raises(ValueError, match="'CartPole-v1'"):
        type(learner.make(Probe(discrete=learner.discrete)))(
            "CartPole", total_timesteps=10_000
        )


@every
def test_episodes_without_a_derivative(learner: Learner) -> None:
    """A run on an environment that stops gradients refuses to be differentiated."""
    name = "CartPole-v1" if learner.discrete else "Pendulum-v1"
    env, _ = gymnax.make(name)  # made by name, Pendulum would not stop them
    trainer = learner.make(env, max_steps=20, total_timesteps=3 * 64)

    def outcome(rate: Any) -> Any:
        changed = eqx.tree_at(lambda one: one.learning_rate, trainer, rate)
        return jnp.mean(changed.init_and_train(jr.key(0))[1]["metrics"]["value_loss"])

    with pytest.raises(TypeError, match="an episode cannot be differentiated"):
        jax.eval_shape(jax.grad(outcome), jnp.asarray(0.01))


class NoReward(Probe):
    """An environment without a reward."""

    @override
    def step(self, state: Any, action: Any) -> Any:
        state, info = super().step(state, action)
        return state, info.update(reward=None)


@every
def test_an_environment_without_a_reward(learner: Learner) -> None:
    with pytest.raises(ValueError, match="reward must be one number, but got None"):
        learner.make(NoReward(discrete=learner.discrete))
