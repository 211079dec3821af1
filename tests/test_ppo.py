"""PPO: one update number by number, its settings, networks, devices and refusals."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import realax as rx
from realax._trees import strong
from realax.policies import no_obs
from realax.tasks._shuffle import shuffles
from realax.training.rl._batch import judged, log_probs, values_of
from realax.training.rl._networks import orthogonal_mlp
from realax.training.rl._reward_scale import RewardScale

from . import ppo_by_numpy as by_numpy
from .helpers import close, same
from .probes import Probe
from .reach import Reach


SMALL: dict[str, Any] = {
    "num_envs": 4,
    "num_steps": 8,
    "update_epochs": 2,
    "num_minibatches": 2,
}


def _cartpole(limit: int = 12) -> Any:
    return rx.GymnaxTask("CartPole-v1", limit)


# The same function each time, so that equal trainers share their programs.
@functools.cache
def _net(out: Any, size: int = 4, width: int = 8) -> Any:
    make = functools.partial(eqx.nn.MLP, size, out, width, 1, activation=jnp.tanh)
    return lambda key: make(key=key)


def _ppo(task: Any = None, updates: int = 2, **more: Any) -> Any:
    given = {**SMALL, "actor": _net(2), "critic": _net("scalar"), **more}
    return rx.PPO(task or _cartpole(), train_steps=updates, **given)


def _scaled(**more: Any) -> Any:
    """Pendulum with normalised observations and scaled rewards."""
    nets: dict[str, Any] = {"actor": _net(1, 3), "critic": _net("scalar", 3)}
    scaled = {"normalize_obs": True, "scale_rewards": True}
    return _ppo(rx.GymnaxTask("Pendulum-v1", 6), **{**nets, **scaled, **more})


@eqx.filter_jit
def _start(trainer: Any, key: Any = 0) -> Any:
    return strong(trainer.initialize(jr.key(key)))  # as a step returns it


@eqx.filter_jit
def _first(trainer: Any) -> Any:
    """Return the statistics and the policy with which training begins."""
    state = trainer.initialize(jr.key(3))
    return state.obs_stats, state.model.policy


@eqx.filter_jit
def _step(trainer: Any, state: Any, key: Any) -> Any:
    """Return the results of a step, and the experience and the batch in it."""
    _, rows = trainer.collect(state)
    batch, scale, _ = trainer.prepare(state, rows)
    return *trainer.train_step(state, key), rows, batch, scale


def _layers(mlp: Any) -> Any:
    return [(np.asarray(one.weight), np.asarray(one.bias)) for one in mlp.layers]


def _parameters(tree: Any) -> Any:
    head = tree.policy.head
    log_std = getattr(head, "log_std", None)
    return by_numpy.Parameters(
        _layers(tree.policy.network),
        _layers(tree.critic),
        None if log_std is None else np.asarray(log_std),
    )


@pytest.mark.parametrize(
    ("name", "limit", "kws", "numbers"),
    [
        (
            "CartPole-v1",
            5,
            {"update_epochs": 3, "num_minibatches": 4, "value_clip": 0.01},
            {"minibatches": 4, "value_clip": 0.01},
        ),
        (
            "Pendulum-v1",
            5,
            {"normalize_advantages": False, "log_std": -0.3, "ent_coef": 0.1},
            {"normalize": False, "entropy_coef": 0.1},
        ),
    ],
    ids=["CartPole, value clipped", "Pendulum"],
)
def test_one_update_is_numpy_s(name: str, limit: int, kws: Any, numbers: Any) -> None:
    """Trained arrays, Adam's moments and losses equal those of plain numpy."""
    with jax.enable_x64(True):
        trainer = rx.PPO(
            rx.GymnaxTask(name, limit),
            train_steps=1,
            **{**SMALL, "learning_rate": 0.01, "clip_eps": 0.02, **kws},
        )
        state, key = _start(trainer), jr.key(7)
        after, metrics, rows, _, _ = _step(trainer, state, key)
        orders = shuffles(key, trainer.update_epochs, 32)
        probability = log_probs(rows)
    assert rows.over.sum() > 2, "episodes end among the steps"
    experience = by_numpy.Experience(
        rows.obs,
        rows.output,
        probability,
        rows.reward,
        rows.terminated,
        rows.truncated,
        rows.next_obs,
    )
    settings = {"minibatches": 2, "learning_rate": 0.01, "clip": 0.02}
    settings = {**settings, "value_clip": None, **numbers}
    before = _parameters(state.model)
    moments = by_numpy.first_moments(before)
    expected, moments, terms = by_numpy.update(
        before, moments, experience, orders, by_numpy.Numbers(**settings)
    )
    found = by_numpy.leaves(_parameters(after.model))
    for x, y in zip(found, by_numpy.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-10)
    adam = after.opt_state[0]
    for tree, wanted in ((adam.mu, moments.first), (adam.nu, moments.second)):
        for x, y in zip(by_numpy.leaves(_parameters(tree)), wanted, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-7, atol=1e-12)
    names = "policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction"
    for name in (*names, "grad_norm"):
        mean = np.mean([one[name] for one in terms])
        np.testing.assert_allclose(metrics[name], mean, rtol=1e-7, atol=1e-10)


LEAVES = {
    "learning_rate": 0.003,
    "gamma": 0.9,
    "gae_lambda": 0.5,
    "clip_eps": 0.001,
    "value_clip": 0.001,
    "vf_coef": 0.1,
    "ent_coef": 0.5,
    "max_grad_norm": 0.01,
    "log_std": -1.0,
}


def test_every_number_has_an_effect_in_one_program() -> None:
    """The numbers are leaves: a program trains with a changed one in each lane."""
    trainer = _ppo(
        rx.GymnaxTask("Pendulum-v1", 6),
        3,
        actor=_net(1, 3),
        critic=_net("scalar", 3),
        value_clip=0.2,
        learning_rate=0.01,
    )
    names = list(LEAVES)
    start = jnp.stack([getattr(trainer, name) for name in names])
    lanes = jnp.stack(
        [start, *(start.at[i].set(LEAVES[n]) for i, n in enumerate(names))]
    )

    def run(values: Any) -> Any:
        where = lambda t: [getattr(t, name) for name in names]
        changed = eqx.tree_at(where, trainer, list(values))
        return changed.init_and_train_(jr.key(0)).trained

    trained = jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(lanes))
    for i, name in enumerate(names):
        moved = [np.abs(x[i + 1] - x[0]).max() for x in jax.tree.leaves(trained)]
        assert max(moved) > 1e-6, name


@pytest.mark.parametrize("size", [1, 5, 4096, 5000])
def test_shuffles_are_fair_orders(size: int) -> None:
    orders = np.asarray(shuffles(jr.key(0), 200, size))
    assert np.array_equal(np.sort(orders, axis=1), np.tile(np.arange(size), (200, 1)))
    # The places of an entry are uniform: their mean is within four deviations.
    places = np.argmax(orders == size // 2, axis=1)
    deviation = max(size, 1) / np.sqrt(12 * 200)
    assert abs(places.mean() - (size - 1) / 2) < 4 * deviation


def test_learning_rates_and_seeds_in_one_program() -> None:
    """No limit of the gradient is one; an infinite learning rate changes nothing."""
    trainer = _ppo()

    def run(rate: Any, limit: Any, key: Any) -> Any:
        changed = dataclasses.replace(trainer, learning_rate=rate, max_grad_norm=limit)
        state, data = changed.init_and_train(key)
        return state.trained, state.guard.skipped, data["metrics"]["grad_norm"]

    rates, keys = jnp.logspace(-4, -2, 16).at[-1].set(jnp.inf), jr.split(jr.key(0), 8)
    limits = jnp.full(16, 0.5).at[-2].set(jnp.inf)
    grid = jax.vmap(jax.vmap(run, (None, None, 0)), (0, 0, None))
    trained, skipped, norm = jax.jit(grid)(rates, limits, keys)
    assert norm.shape == (16, 8, 2)
    assert len(np.unique(norm[..., 1])) == 16 * 8, "each lane is a run of its own"
    assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(trained))
    assert np.all(skipped[:-1] == 0) and np.all(skipped[-1] == 8)


def test_the_learning_rate_falls_to_zero() -> None:
    trainer = _ppo(updates=4, anneal_lr=True, learning_rate=0.1)
    state, moved = _start(_ppo()), list[float]()
    for update in range(5):
        begun = eqx.tree_at(lambda s: s.step, state, jnp.asarray(update, jnp.int32))
        after, *_ = _step(trainer, begun, jr.key(1))
        pairs = zip(*map(jax.tree.leaves, (after.trained, state.trained)), strict=True)
        moved.append(sum(np.sum((np.asarray(a) - b) ** 2) for a, b in pairs))
    assert moved == sorted(moved, reverse=True) and moved[3] > moved[4] == 0


def test_the_number_of_updates() -> None:
    assert rx.PPO(_cartpole(), 2048).train_steps == 1
    assert rx.PPO(_cartpole(), 2049).train_steps == 2
    trainer = rx.PPO(_cartpole(), 500_000, num_envs=16, num_steps=128)
    assert trainer.train_steps == 245
    assert trainer.total_timesteps == 245 * 2048
    assert dataclasses.replace(trainer, total_timesteps=4096).train_steps == 2


def test_scaled_rewards_are_numpy_s() -> None:
    rng = np.random.default_rng(0)
    rewards = rng.normal(3.0, 2.0, (2, 50, 3))
    over = rng.random((2, 50, 3)) < 0.1
    scale, gamma = RewardScale.new(3), jnp.asarray(0.9)
    returns, seen = np.zeros(3), list[Any]()
    for r, o in zip(rewards, over, strict=True):
        scaled, scale = scale.scaled(jnp.asarray(r), jnp.asarray(o), gamma)
        for reward, ends in zip(r, o, strict=True):
            returns = 0.9 * returns + reward
            seen.append(returns)
            returns = np.where(ends, 0.0, returns)
        deviation = np.std(np.concatenate(seen))
        np.testing.assert_allclose(scaled, r / deviation, rtol=1e-4)
    np.testing.assert_allclose(scale.returns, returns, rtol=1e-5)


def test_observations_are_normalised_by_what_was_seen() -> None:
    trainer = _scaled()
    state = _start(trainer)
    after, _, rows, *_ = _step(trainer, state, jr.key(1))
    seen = np.asarray(rows.obs).reshape(-1, 3)
    stats = after.obs_stats
    np.testing.assert_allclose(stats.mean, seen.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats.spread / stats.count, seen.var(0), rtol=1e-3)
    policy = trainer.params(after)
    assert isinstance(policy, rx.NormalizedPolicy)
    value, _ = eqx.filter_jit(trainer.env)(policy, jr.key(2))
    assert jnp.isfinite(value)
    # What was trained goes on, with its statistics, and is a start for evolution too.
    more = dataclasses.replace(trainer, actor=policy)
    known, found = _first(more)
    assert same(known, stats)
    arrays = lambda policy: eqx.filter(policy, eqx.is_array)
    assert same(arrays(found), arrays(after.model.policy))

    def evolved(key: Any) -> Any:
        return rx.evolve(policy.policy, trainer.env, key, steps=1, popsize=4)[0]

    assert isinstance(eqx.filter_eval_shape(evolved, jr.key(0)), rx.StochasticPolicy)


@pytest.mark.parametrize("obs_dims", [4, 100])
def test_default_networks_are_orthogonal(obs_dims: int) -> None:
    mlp = orthogonal_mlp(obs_dims, 2, 0.01, jr.key(0))
    assert [layer.weight.shape for layer in mlp.layers] == [
        (64, obs_dims),
        (64, 64),
        (2, 64),
    ]
    for layer, gain in zip(mlp.layers, (2**0.5, 2**0.5, 0.01), strict=True):
        w = np.asarray(layer.weight) / gain
        gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)
        assert not np.any(np.asarray(layer.bias))
    other = orthogonal_mlp(obs_dims, 2, 0.01, jr.key(1))
    assert not np.allclose(mlp.layers[1].weight, other.layers[1].weight)


def test_learning_sees_scaled_rewards_and_normalised_observations() -> None:
    trainer = _scaled()
    state, *_ = _step(trainer, _start(trainer), jr.key(0))
    _, _, rows, batch, scale = _step(trainer, state, jr.key(1))
    stats = jax.tree.map(np.asarray, state.obs_stats)
    seen = (rows.obs - stats.mean) / np.sqrt(stats.spread / stats.count)
    assert close(batch.obs, np.clip(seen, -10, 10).reshape(-1, 3), 1e-3, 1e-3)

    @eqx.filter_jit
    def again(state: Any, rows: Any, batch: Any) -> Any:
        found = judged(state.model, batch, recurrent=False).distribution
        log_prob = jax.vmap(lambda d, a: d.log_prob(a))(found, batch.output)
        rewards, _ = state.reward_scale.scaled(rows.reward, rows.over, trainer.gamma)
        later = state.obs_stats.normalize(rows.next_obs[-1])
        value = jax.vmap(state.model.critic)(later)
        return log_prob, rewards[-1] + trainer.gamma * value

    # The policy that is learned from is the one that played.
    log_prob, target = again(state, rows, batch)
    assert close(log_prob, batch.log_prob)
    # The final step of each stream that is not cut off: target = r + gamma * V(next).
    assert scale.stats.count == state.reward_scale.stats.count + 32
    assert close(batch.target.reshape(8, 4)[-1], target, 1e-3, 1e-4)


def test_failed_steps_are_left_out() -> None:
    """A batch with failed steps has the gradient of the batch without them."""
    trainer = _ppo()
    state = _start(trainer)
    rows = _step(trainer, state, jr.key(0))[2]
    bad = np.zeros(rows.failed.shape, bool)
    bad[2:4] = True
    broken = np.where(bad[..., None], np.float32(np.nan), rows.obs)
    reward = np.where(bad, np.float32(np.nan), rows.reward)
    parts = jnp.asarray(bad), jnp.asarray(broken), jnp.asarray(reward)
    rows = eqx.tree_at(lambda r: (r.failed, r.obs, r.reward), rows, parts)
    batch, _, _ = eqx.filter_jit(trainer.prepare)(state, rows)
    kept = np.flatnonzero(~bad.ravel())
    assert len(kept) == 24 and not np.any(np.asarray(batch.advantage)[8:16])
    gradient = jax.jit(lambda batch: trainer._gradient(state, state.trained, batch))
    assert close(
        gradient(batch), gradient(jax.tree.map(lambda leaf: leaf[kept], batch))
    )


def test_metrics_of_episodes() -> None:
    """Means over the episodes that ended; the last known one where none did."""
    trainer = _ppo()
    state = _start(trainer)
    returns, known = np.zeros(4), np.nan
    for step in range(6):
        after, metrics, rows, *_ = _step(trainer, state, jr.key(step))
        ended = list[float]()
        for reward, over in zip(rows.reward, rows.over, strict=True):
            returns = returns + np.asarray(reward)
            ended += returns[np.asarray(over)].tolist()
            returns = np.where(over, 0.0, returns)
        state = after
        known = np.mean(ended) if ended else known
        assert int(metrics["episodes"]) == len(ended)
        assert np.allclose(metrics["episode_return"], known, equal_nan=True)
        assert np.allclose(metrics["episode_length"], known, equal_nan=True)


class Wide(rx.AbstractHead):
    """A normal whose deviation depends on the observation, too."""

    size = property(lambda self: 2)

    def __call__(self, scores: Any) -> Any:
        return rx.Normal(scores[:1], scores[1:])


class Squashed(rx.AbstractStochasticPolicy[None]):
    """A policy of one's own, which stays within the bounds."""

    net: Any
    sample: bool = eqx.field(static=True, default=False)

    def initialize(self, key: Any) -> None:
        return None

    def distribution(self, obs: Any, state: None) -> Any:
        mean, log_std = jnp.split(self.net(obs), 2)
        return rx.TanhNormal(mean, log_std, jnp.array([-2.0]), jnp.array([2.0])), state


@pytest.mark.parametrize(
    "policy",
    [
        lambda key: rx.StochasticPolicy(_net(2, 3)(key), Wide()),
        lambda key: Squashed(_net(2, 3)(key)),
    ],
    ids=["a head", "a policy"],
)
def test_distributions_of_one_s_own(policy: Any) -> None:
    task = rx.GymnaxTask("Pendulum-v1", 6)
    trainer = _ppo(task, 2, actor=policy, critic=_net("scalar", 3))
    state, data = trainer.init_and_train(jr.key(0))
    assert isinstance(trainer.params(state), type(policy(jr.key(0))))
    assert int(data["metrics"]["skipped"][-1]) == 0


def test_a_policy_plays_its_mode_or_samples() -> None:
    policy = _ppo().params(_start(_ppo()))
    obs, keys = jnp.full(4, 0.1), jr.split(jr.key(0), 200)
    play = eqx.filter_jit(
        lambda policy: jax.vmap(lambda key: policy(obs, None, key)[0])(keys)
    )
    distribution, _ = policy.distribution(obs, None)
    assert jnp.all(play(policy) == distribution.mode())
    sampled = play(dataclasses.replace(policy, sample=True))
    share = float(jnp.exp(distribution.log_prob(jnp.asarray(1))))
    assert abs(float(sampled.mean()) - share) < 0.15


class Memory(rx.BasePolicy[Any]):
    """A recurrent network with two heads, whose memory begins at random."""

    cell: eqx.nn.GRUCell
    heads: eqx.nn.Linear

    def __init__(self, key: Any):
        self.cell = eqx.nn.GRUCell(4, 5, key=key)
        self.heads = eqx.nn.Linear(5, 3, key=key)

    def initialize(self, key: Any) -> Any:
        return jr.normal(key, (5,))

    def __call__(self, obs: Any, state: Any, key: Any) -> Any:
        state = self.cell(obs, state)
        out = self.heads(state)
        return (out[:2], out[2]), state


@pytest.mark.parametrize(
    "nets",
    [
        {"actor": Memory, "critic": None},
        {
            "actor": lambda key: rx.RNNPolicy(4, 2, 5, key=key),
            "critic": lambda key: rx.RNNPolicy(4, 1, 5, key=key),
        },
    ],
    ids=["two heads", "two networks"],
)
def test_a_memory_is_replayed_as_it_was_played(nets: Any) -> None:
    """Probabilities computed again, through episodes' ends, are those that acted."""
    trainer = _ppo(_cartpole(5), 2, **nets)
    state, *_ = _step(trainer, _start(trainer), jr.key(1))
    _, _, rows, batch, _ = _step(trainer, state, jr.key(1))
    assert batch.fresh.shape == (4, 8) and batch.fresh.sum() >= 8
    model = state.model

    @eqx.filter_jit
    def judgements(model: Any, batch: Any, rows: Any) -> Any:
        again = judged(model, batch, recurrent=True)
        log_prob = jax.vmap(jax.vmap(lambda d, a: d.log_prob(a)))
        later = values_of(model, rows, rows.obs, rows.next_obs, recurrent=True)[1]
        return log_prob(again.distribution, batch.output), again.value, later

    # The value after a step is that of its own final observation.
    log_prob, value, later = judgements(model, batch, rows)
    assert close(log_prob, batch.log_prob) and close(value, batch.value)
    alone = eqx.filter_jit(
        lambda one, following, state: model(following, model(one, state).state).value
    )
    steps = jax.tree.map(np.asarray, (rows.obs, rows.next_obs, rows.extras["state"]))
    for t, env in ((7, 0), (int(np.argmax(rows.over[:, 1])), 1)):
        one = jax.tree.map(lambda x, e=env, t=t: jnp.asarray(x[t, e]), steps)
        assert close(later[t, env], alone(*one))
    whole, _ = eqx.filter_jit(trainer.env)(trainer.params(state), jr.key(0))
    assert jnp.isfinite(whole)


class Pixels(eqx.Module):
    """A small convolutional network with two heads, on images of MinAtar."""

    conv: eqx.nn.Conv2d
    heads: eqx.nn.Linear

    def __init__(self, key: Any):
        self.conv = eqx.nn.Conv2d(4, 2, 3, key=key)
        self.heads = eqx.nn.Linear(2 * 8 * 8, 4, key=key)

    def __call__(self, obs: Any) -> Any:
        out = self.heads(jnp.ravel(jax.nn.relu(self.conv(jnp.moveaxis(obs, -1, 0)))))
        return out[:3], out[3]


def test_pixels_and_two_heads() -> None:
    task = rx.GymnaxTask("Breakout-MinAtar", 10, flatten_obs=False)
    assert task.obs_shape.shape == (10, 10, 4)
    trainer = _ppo(task, 1, actor=Pixels, critic=None)
    model = eqx.filter_eval_shape(lambda: trainer.init_and_train_(jr.key(0)).model)
    assert isinstance(model.policy.network, Pixels)
    with pytest.raises(ValueError, match="`actor` must be given .*flatten_obs=False"):
        rx.PPO(task, 10_000)
    with pytest.raises(ValueError, match="`normalize_obs` of `PPO` needs flat"):
        rx.PPO(task, 10_000, actor=Pixels, normalize_obs=True)


def test_several_choices() -> None:
    """An environment with choices of different counts, and one with mixed parts."""
    import envelope

    class Many(Probe):
        action_space = property(
            lambda self: envelope.PyTreeSpace(
                tree={
                    "gears": envelope.Discrete(n=jnp.array([3, 2])),
                    "push": envelope.Continuous.from_shape(-1.0, 1.0, (2,)),
                }
            )
        )

        def step(self, state: Any, action: Any) -> Any:
            score = jnp.sum(action["gears"]) + action["push"][0]
            return super().step(state, (score > 1).astype(jnp.int32))

    task = rx.make(Many(), max_steps=2)
    assert task.space.action_dims == 7
    trainer = rx.PPO(task, train_steps=2, **SMALL)
    _, metrics, rows, *_ = _step(trainer, _start(trainer), jr.key(0))
    gears = rows.action["gears"]
    assert gears.shape == (8, 4, 2) and gears[..., 0].max() == 2
    assert gears[..., 1].max() == 1
    assert jnp.abs(rows.action["push"]).max() <= 1 < jnp.abs(rows.output["push"]).max()
    assert jnp.isfinite(metrics["policy_loss"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "kws",
    [{}, {"actor": Memory, "critic": None, "normalize_obs": True}],
    ids=["no memory", "memory, normalised"],
)
def test_two_devices(kws: Any) -> None:
    """Environments and minibatches are divided, and nothing else changes."""
    one, two = (
        _ppo(_cartpole(5), n_devices=n, **kws).init_and_train(jr.key(0)) for n in (1, 2)
    )
    assert close(one, two)
    assert same(one[0].streams.key, two[0].streams.key)


def test_a_killed_run_goes_on_exactly(tmp_path: Any) -> None:
    """Environments, optimiser, statistics and counters are all in a checkpoint."""
    run = lambda updates, name: _scaled(
        updates=updates, callbacks=rx.Checkpointer(tmp_path / name, every=2)
    ).init_and_train(jr.key(0))[0]
    run(4, "halves")
    assert same(run(6, "halves"), run(6, "whole"))


class TwoHeads(eqx.Module):
    """Two heads, of which the second gives three values."""

    net: Any

    def __init__(self, key: Any):
        self.net = _net(5)(key)

    def __call__(self, obs: Any) -> Any:
        out = self.net(obs)
        return out[:2], out[2:]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"num_minibatches": 5}, "`num_minibatches` .*must divide.* 2048, but got 5"),
    ({"total_timesteps": 2000}, "must be at least 2048, .*but got 2000"),
    ({"gamma": 0.0}, "`gamma` of `PPO` must be .*above 0 and at most 1, but got 0"),
    ({"gamma": 1.5}, "`gamma` .*at most 1, but got 1.5"),
    ({"learning_rate": -1.0}, "`learning_rate` .*at least 0, but got -1"),
    ({"clip_eps": 0}, "`clip_eps` .*above 0, but got 0"),
    ({"num_envs": 0}, "`num_envs` .*at least 1, but got 0"),
    ({"num_envs": 3, "n_devices": 2}, "`num_envs` .*multiple of `n_devices`"),
    ({"critic": lambda key: eqx.nn.MLP(4, 3, 8, 1, key=key)}, "critic must return one"),
    ({"critic": _net("scalar", 3)}, r"`critic` must take an obs.*\(4,\).*dot_general"),
    ({"actor": _net(2, 5)}, r"`actor` must take an observation.*shape \(4,\)"),
    (
        {"actor": lambda key: rx.StochasticPolicy(_net(3)(key), Wide())},
        "2 scores",
    ),
    ({"actor": lambda key: eqx.nn.MLP(4, 3, 8, 1, key=key)}, "return 2 scores.*shape"),
    ({"actor": lambda key: None}, "`actor` must be .*the function returned None"),
    (
        {"actor": lambda key: no_obs(4).bind(_net(2)(key))},
        "`actor` must be a network here, but got a NormalizedPolicy",
    ),
    ({"actor": TwoHeads}, "critic must return one number"),
    ({"num_minibatches": 2048}, "needs minibatches of more than one step"),
    ({"actor": "mlp"}, "`actor` .*must be an `equinox.Module`.*got 'mlp'"),
    ({"actor": eqx.nn.MLP}, "MLP.* cannot be called with one key"),
    ({"actor": Memory, "critic": _net("scalar")}, "`critic` must be left out"),
    ({"actor": Memory, "num_minibatches": 32}, "recurrent network's sequences"),
    ({"total_timestep": 5000}, "no argument `total_timestep`.*'total_timesteps'"),
]


@pytest.mark.parametrize(("kws", "message"), WRONG, ids=lambda x: str(x)[:30])
def test_wrong_arguments(kws: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        rx.PPO("CartPole-v1", **{"total_timesteps": 5000, **kws})


def test_no_number_of_steps() -> None:
    with pytest.raises(TypeError, match="`total_timesteps` of `PPO` must be given"):
        rx.PPO("CartPole-v1")


class Sure(rx.BasePolicy[None]):
    """A policy that returns its action, and so has no distribution."""

    weight: Any = eqx.field(default_factory=lambda: jnp.ones(4))

    def initialize(self, key: Any) -> None:
        return None

    def __call__(self, obs: Any, state: None, key: Any) -> Any:
        return (self.weight @ obs > 0).astype(jnp.int32), state


def test_an_actor_without_a_distribution() -> None:
    with pytest.raises(TypeError, match="must have a distribution.*int32"):
        rx.PPO("CartPole-v1", 5000, actor=Sure())


def test_slopes_of_the_metrics() -> None:
    task = rx.make(Reach(far=jnp.inf), max_steps=5)
    names = "approx_kl", "policy_loss", "value_loss", "entropy", "grad_norm"

    def metrics(rate: Any) -> Any:
        sizes = {
            "num_envs": 4,
            "num_steps": 8,
            "num_minibatches": 2,
            "update_epochs": 2,
        }
        trainer = rx.PPO(task, train_steps=1, learning_rate=rate, **sizes)
        found = trainer.init_and_train(jr.key(0))[1]["metrics"]
        return jnp.stack([found[name][0] for name in names])

    run, rate, step = jax.jit(metrics), 1e-3, 1e-4
    slopes = jax.jit(jax.jacfwd(metrics))(jnp.asarray(rate))
    ends = run(jnp.asarray(rate + step)), run(jnp.asarray(rate - step))
    assert np.allclose(slopes, (ends[0] - ends[1]) / (2 * step), 0.02, 0.01)
