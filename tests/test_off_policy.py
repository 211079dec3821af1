"""DQN, PQN, TD3, DDPG and SAC: updates number by number, and what a run does."""

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
from realax.tasks._shuffle import shuffles
from realax.training.rl._collect import collected
from realax.training.rl._transitions import Replayed, Transition, replayed

from . import actor_critic_by_numpy as actor_critic, q_by_numpy as q_learning
from .helpers import same
from .probes import CONSTANT, DISCOUNTED, Probe
from .reach import HIGH, LOW, reach


SMALL: dict[str, Any] = {
    "train_steps": 2,
    "num_envs": 2,
    "learning_starts": 12,
    "batch_size": 8,
    "buffer_size": 24,
}
PQN_SMALL: dict[str, Any] = {
    "train_steps": 2,
    "num_envs": 4,
    "num_steps": 16,
    "update_epochs": 2,
    "num_minibatches": 4,
}


# The same functions each time, so that equal trainers share their programs.


@functools.cache
def mlp(inputs: int, outputs: Any, width: int = 6) -> Any:
    """Its numbers are one draw, for each draw takes long to compile."""
    make = functools.partial(eqx.nn.MLP, inputs, outputs, width, 1)
    like = eqx.filter_eval_shape(lambda: make(key=jr.key(0)))
    leaves, treedef = jax.tree.flatten(like)
    shapes = [x.shape for x in leaves if isinstance(x, jax.ShapeDtypeStruct)]
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])

    def draw(key: Any) -> Any:
        parts = jnp.split(0.4 * jr.normal(key, (int(ends[-1]),)), ends[:-1])
        rest = iter([x.reshape(shape) for x, shape in zip(parts, shapes, strict=True)])
        arrays = [
            next(rest) if isinstance(x, jax.ShapeDtypeStruct) else x for x in leaves
        ]
        return jax.tree.unflatten(treedef, arrays)

    return draw


@functools.cache
def value(inputs: int) -> Any:
    return lambda key: rx.ActionValue(mlp(inputs, "scalar", 5)(key))


def dqn(**more: Any) -> Any:
    task = more.pop("task", None) or reach(discrete=True)
    own = {"network": mlp(3, 3), "num_steps": 1, "tau": 1.0}
    return rx.DQN(task, **{**SMALL, **own, **more})


def pqn(**more: Any) -> Any:
    return rx.PQN(reach(discrete=True), **{**PQN_SMALL, **more})


def td3(**more: Any) -> Any:
    nets = {"actor": mlp(3, 2), "critic": value(5)}
    return rx.TD3(reach(), **{**SMALL, **nets, **more})


def ddpg(**more: Any) -> Any:
    nets = {"actor": mlp(3, 2), "critic": value(5)}
    return rx.DDPG(reach(), **{**SMALL, **nets, **more})


def sac(discrete: bool = False, **more: Any) -> Any:
    nets: dict[str, Any] = {"actor": mlp(3, 4), "critic": value(5)}
    if discrete:
        nets = {"actor": mlp(3, 3), "critic": mlp(3, 3, 5)}
    task = more.pop("task", None) or reach(discrete=discrete)
    return rx.SAC(task, **{**SMALL, **nets, **more})


@eqx.filter_jit
def learn(trainer: Any, nets: Any, batch: Any, key: Any, count: Any) -> Any:
    return trainer.learn(nets, batch, key, count)


@eqx.filter_jit
def _replayed(buffer: Any, key: Any, size: int, gamma: Any, envs: int, n: int) -> Any:
    places = buffer.places(key, size)
    return places, replayed(buffer, None, key, size, gamma, envs, n)


@eqx.filter_jit
def start(trainer: Any, key: Any = 0) -> Any:
    return trainer.initialize(jr.key(key))


@eqx.filter_jit
def _two_nets(trainer: Any) -> Any:
    return trainer.nets(jr.key(0)), trainer.nets(jr.key(1))


# --- One update is that of plain numpy ---


def _layers(network: Any, which: int | None = None) -> Any:
    """The layers of a network, as the numpy implementations have them."""

    def pair(layer: Any) -> Any:
        arrays = layer.weight, layer.bias
        return tuple(np.asarray(x if which is None else x[which]) for x in arrays)

    if isinstance(network, eqx.nn.MLP):
        return [pair(layer) for layer in network.layers]
    if isinstance(network, eqx.nn.Sequential):
        return [pair(layer) for layer in network if hasattr(layer, "weight")]
    if hasattr(network, "body"):  # two heads, whose outputs are one after the other
        heads = pair(network.scores), pair(network.value)
        last = tuple(np.concatenate(both) for both in zip(*heads, strict=True))
        return [*_layers(network.body), last]
    return _layers(network.network, which)


def _equal(found: Any, expected: Any, what: Any) -> None:
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-7, atol=1e-10, err_msg=str(what))


def _batch(rng: Any, kind: str, last: bool = False) -> tuple[Any, Any]:
    """A random batch, as both implementations have it; if `last`, no row counts."""
    obs, next_obs = rng.normal(size=(2, 8, 3))
    actions = rng.integers(0, 3, 8).astype(np.int32)
    if kind == "real":
        low, high = np.array(LOW), np.array(HIGH)
        actions = low + (high - low) * rng.random((8, 2))
    discount = 0.9 * (np.arange(8) % 4 > 0)
    weight = np.where(last, 0.0, 1.0 * (np.arange(8) < 6))
    rewards = 3 * rng.normal(size=8)
    batch = q_learning.Batch(obs, actions, rewards, discount, next_obs, weight)
    columns = {
        "obs": obs,
        "action": actions,
        "reward": rewards,
        "discount": discount,
        "next_obs": next_obs,
        "weight": weight,
    }
    return Replayed(**{k: jnp.asarray(x) for k, x in columns.items()}), batch


@pytest.mark.parametrize(
    "kws",
    [
        {},
        {
            "double": False,
            "dueling": True,
            "network": None,
            "target_every": 1,
            "max_grad_norm": 10.0,
        },
    ],
    ids=["double", "dueling"],
)
def test_an_update_of_dqn_is_numpy_s(kws: Any) -> None:
    """The networks and all metrics are those of numpy, for several updates."""
    kws = {"target_every": 2, "max_grad_norm": 0.5, **kws}
    flags = {k: v for k, v in kws.items() if k in ("double", "dueling")}
    n = q_learning.Numbers(0.02, kws["max_grad_norm"], **flags)
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        trainer = dqn(
            learning_rate=0.02, tau=0.3, gradient_steps=2, epsilon_steps=8.0, **kws
        )
        nets, other = _two_nets(trainer)
        nets = dataclasses.replace(nets, target=other.online.trained)
        layers = lambda nets: (
            _layers(nets.online.network),
            _layers(nets.online.at(nets.target)),
        )
        online, target = layers(nets)
        moments, norms = q_learning.moments_of(online), list[float]()
        for count in range(5):
            batch, rows = _batch(rng, "choices", count == 4)
            nets, found = learn(trainer, nets, batch, jr.key(0), jnp.asarray(count))
            online, moments, terms = q_learning.dqn_update(
                online, target, moments, rows, n
            )
            if (count + 1) % kws["target_every"] == 0:
                target = actor_critic.moved(target, online, 0.3)
            _equal(layers(nets), (online, target), count)
            _equal(found["value_loss"], terms["loss"], count)
            _equal(found["mean_value"], terms["q"], count)
            _equal(found["grad_norm"], terms["grad_norm"], count)
            # Two batches after each two steps, one of each environment.
            epsilon = 1 - 0.95 * min(count // 2 * 2 / 8, 1)
            _equal(found["epsilon"], epsilon, count)
            norms.append(terms["grad_norm"])
        assert int(nets.skipped) == 0
    assert norms[0] > 0.5, "some gradients are shortened"


def _numpy_state(nets: Any) -> Any:
    """The networks of TD3 or SAC as the numpy implementation has them."""
    count = len(jax.tree.leaves(nets.critics.trained)[0])
    critics, targets = (
        [_layers(network, i) for i in range(count)]
        for network in (nets.critics.network, nets.critics.at(nets.target_critics))
    )
    actor = nets.actor.network
    policy = getattr(actor, "policy", actor)
    state = actor_critic.first_state(_layers(policy), critics)
    target = state.actor
    if hasattr(nets, "target_actor"):
        target = _layers(nets.actor.at(nets.target_actor))
    log_alpha = np.asarray(getattr(actor, "log_temperature", 0.0))
    return state._replace(
        target_critics=targets, target_actor=target, log_alpha=log_alpha
    )


def _moments_norm(before: Any, after: Any) -> Any:
    """The length of the gradient by which Adam's first moments changed."""
    pairs = zip(before.first, after.first, strict=True)
    return np.sqrt(sum((((y - 0.9 * x) / 0.1) ** 2).sum() for x, y in pairs))


def _check_critics(found: Any, before: Any, after: Any, rows: Any, terms: Any) -> None:
    """The metrics of the critics, of which the value is the first one's."""
    x, critic = rows.obs, before.critics[0]
    if rows.actions.ndim == 2:
        x = np.concatenate([x, rows.actions], 1)
    q = q_learning.forward(critic, x)[-1]
    q = q[:, 0] if rows.actions.ndim == 2 else q[np.arange(8), rows.actions]
    _equal(found["mean_value"], q_learning.weighted_mean(q, rows.weight), "q")
    _equal(found["value_loss"], terms["critic_loss"], "loss")
    norm = _moments_norm(before.critic_moments, after.critic_moments)
    _equal(found["grad_norm"], norm, "norm")


@pytest.mark.parametrize(("make", "delay"), [(td3, 2), (ddpg, 1)], ids=["TD3", "DDPG"])
def test_an_update_of_td3_is_numpy_s(make: Any, delay: int) -> None:
    rng, last = np.random.default_rng(1), 0.0
    n = actor_critic.Numbers(
        np.array(LOW), np.array(HIGH), 0.02, 0.3, delay, 0.6 if delay == 2 else 0.0
    )
    more = {"target_noise": 0.6} if delay == 2 else {}
    with jax.enable_x64(True):
        trainer = make(learning_rate=0.02, tau=0.3, **more)
        nets, other = _two_nets(trainer)
        nets = dataclasses.replace(
            nets,
            target_actor=other.actor.trained,
            target_critics=other.critics.trained,
        )
        state = _numpy_state(nets)
        assert len(state.critics) == delay, "DDPG has one critic"
        for count in range(5):
            batch, rows = _batch(rng, "real", count == 4)
            key = jr.key(count)
            noise = np.asarray(jr.normal(key, (8, 2)))
            assert np.abs(0.6 * noise).max() > 0.5, "noise is clipped"
            nets, found = learn(trainer, nets, batch, key, jnp.asarray(count))
            before = state
            # The policy moves at the first batch, in numpy at the second one.
            state, terms = actor_critic.td3_update(
                state, rows, noise, count + delay - 1, n
            )
            for name in ("actor", "critics", "target_actor", "target_critics"):
                theirs = getattr(_numpy_state(nets), name)
                _equal(theirs, getattr(state, name), (name, count))
            _check_critics(found, before, state, rows, terms)
            assert ("actor_loss" in terms) == (count % delay == 0)
            last = terms.get("actor_loss", last)
            _equal(found["policy_loss"], last, count)
        assert int(nets.skipped) == 0


@pytest.mark.parametrize(
    ("discrete", "tune"),
    [(False, True), (True, True), (False, False)],
    ids=["continuous", "discrete", "fixed"],
)
def test_an_update_of_sac_is_numpy_s(discrete: bool, tune: bool) -> None:
    rng = np.random.default_rng(2)
    entropy = 0.89 * np.log(3) if discrete else -2.0
    n = actor_critic.Numbers(
        np.array(LOW), np.array(HIGH), 0.02, 0.3, target_entropy=entropy
    )
    with jax.enable_x64(True):
        trainer = sac(
            discrete,
            learning_rate=0.02,
            tau=0.3,
            temperature=0.5,
            tune_temperature=tune,
        )
        # Those of `fixed` are no others, and compiled before.
        nets, other = _two_nets(dataclasses.replace(trainer, tune_temperature=True))
        nets = dataclasses.replace(nets, target_critics=other.critics.trained)
        state = _numpy_state(nets)
        _equal(state.log_alpha, np.log(0.5), "start")
        for count in range(4):
            batch, rows = _batch(rng, "choices" if discrete else "real")
            key = jr.key(count)
            next_noise, noise = (
                np.asarray(jr.normal(k, (8, 2))) for k in jr.split(key)
            )
            nets, found = learn(trainer, nets, batch, key, jnp.asarray(count))
            before = state
            if discrete:
                state, terms = actor_critic.discrete_sac_update(state, rows, n)
            else:
                state, terms = actor_critic.sac_update(
                    state, rows, next_noise, noise, n
                )
            if not tune:
                state = state._replace(log_alpha=before.log_alpha)
            for name in ("actor", "critics", "target_critics", "log_alpha"):
                theirs = getattr(_numpy_state(nets), name)
                _equal(theirs, getattr(state, name), (name, count))
            _check_critics(found, before, state, rows, terms)
            _equal(found["policy_loss"], terms["actor_loss"], count)
            _equal(found["entropy"], terms["entropy"], count)
            _equal(found["temperature"], np.exp(before.log_alpha), count)
        assert int(nets.skipped) == 0
        assert (float(state.log_alpha) != float(np.log(0.5))) is tune


def narrow(kind: str, last: bool = False) -> Any:
    """A random batch of the default float type."""
    with jax.enable_x64(True):
        batch, _ = _batch(np.random.default_rng(0), kind, last)
    wide = lambda x: x.dtype == jnp.float64
    return jax.tree.map(lambda x: x.astype(jnp.float32) if wide(x) else x, batch)


def test_a_batch_of_failed_steps_leaves_the_temperature() -> None:
    with jax.enable_x64(True):  # as above, so that nothing compiles
        trainer = sac(learning_rate=0.02)
        nets, _ = _two_nets(trainer)
        batch, _ = _batch(np.random.default_rng(0), "real", True)
        after, _ = learn(trainer, nets, batch, jr.key(0), jnp.asarray(0))
    assert same(after.actor.trained, nets.actor.trained)


@eqx.filter_jit
def _pqn_step(trainer: Any, state: Any, key: Any) -> Any:
    """Return the results of an update, and the experience in it."""
    player = trainer.player(state.online.network, state.step, state.obs_stats)
    _, rows = collected(trainer.env, player, state.streams, trainer.num_steps)
    return *trainer.train_step(state, key), rows


@eqx.filter_jit
def _prepared(trainer: Any, state: Any, rows: Any) -> Any:
    return trainer.prepare(state, rows)[0]


def _numpy_rows(rows: Any) -> Any:
    return q_learning.Experience(
        rows.obs,
        rows.action,
        rows.reward,
        rows.terminated,
        rows.over,
        rows.failed,
        rows.next_obs,
    )


def test_an_update_of_pqn_is_numpy_s() -> None:
    """The targets, also around failed steps, and the whole of an update."""
    numbers = {"learning_rate": 0.02, "max_norm": 1.0, "gamma": 0.9, "lam": 0.6}
    n = q_learning.Numbers(**numbers)
    with jax.enable_x64(True):
        trainer = pqn(learning_rate=0.02, max_grad_norm=1.0, gamma=0.9, td_lambda=0.6)
        state, key = start(trainer), jr.key(7)
        after, metrics, rows = _pqn_step(trainer, state, key)
        orders = shuffles(key, 2, 64)
        # Some more steps that failed, which end episodes, too.
        failed = jr.bernoulli(key, 0.2, rows.failed.shape)
        faulty = eqx.tree_at(lambda r: r.failed, rows, failed)
        prepared = [_prepared(trainer, state, one) for one in (rows, faulty)]
    assert rows.terminated.sum() > 2 and (rows.truncated & ~rows.terminated).sum() > 2
    layers = _layers(state.online.network)
    for one, steps in zip((rows, faulty), prepared, strict=True):
        best, next_best = (
            q_learning.forward(layers, np.asarray(obs))[-1].max(-1)
            for obs in (one.obs, one.next_obs)
        )
        targets = q_learning.lambda_returns(_numpy_rows(one), best, next_best, n)
        kept = ~np.asarray(one.failed).ravel()
        _equal(steps.weight, kept, "weight")
        _equal(steps.target[kept], targets.ravel()[kept], "target")
        assert not np.any(steps.target[~kept])
    moments = q_learning.moments_of(layers)
    layers, moments, terms = q_learning.pqn_update(
        layers, moments, _numpy_rows(rows), orders, n._replace(minibatches=4)
    )
    _equal(_layers(after.online.network), layers, "layers")
    names = {"value_loss": "loss", "mean_value": "q", "grad_norm": "grad_norm"}
    for ours, theirs in names.items():
        _equal(metrics[ours], np.mean([one[theirs] for one in terms]), ours)
    norms = [one["grad_norm"] for one in terms]
    assert min(norms) < 1 < max(norms), "some gradients are shortened"
    assert float(metrics["epsilon"]) == 1.0


# --- What a batch holds ---


def _steps(rng: Any, count: int) -> Any:
    """Random rows of three environments side by side, with ends of all kinds."""
    terminated, truncated, failed = rng.random((3, 3 * count)) < 0.12
    zero = np.where(failed, 0.0, 1.0)
    return Transition(
        obs=jnp.asarray(rng.normal(size=3 * count) * zero, jnp.float32),
        action=jnp.asarray(rng.integers(0, 3, 3 * count), jnp.int32),
        reward=jnp.asarray(rng.normal(size=3 * count) * zero, jnp.float32),
        next_obs=jnp.asarray(rng.normal(size=3 * count) * zero, jnp.float32),
        terminated=jnp.asarray(terminated & ~failed),
        over=jnp.asarray(terminated | truncated | failed),
        failed=jnp.asarray(failed),
    )


@pytest.mark.parametrize("chunks", [2, 7], ids=["partly full", "wrapped"])
@pytest.mark.parametrize("n", [1, 5])
def test_targets_of_several_steps_are_numpy_s(n: int, chunks: int) -> None:
    """Each environment's steps are followed, through the place where it wraps."""
    rng = np.random.default_rng(n)
    parts = [_steps(rng, 4) for _ in range(chunks)]
    shape = lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    buffer: Any = rx.ReplayBuffer.new(jax.tree.map(shape, parts[0]), 60, 6)
    for part in parts:
        buffer = buffer.add(part)
    joined = jax.tree.map(lambda *x: np.concatenate(x)[-60:], *parts)
    stored = len(joined.reward) // 3
    # Of each environment, from the oldest to the newest.
    lane = lambda env: jax.tree.map(lambda x: x[env::3], joined)
    lanes, gamma = [lane(env) for env in range(3)], 0.9
    places, batch = _replayed(buffer, jr.key(0), 500, jnp.asarray(gamma), 3, n)
    newer = np.asarray(buffer.newer(places))
    batch = jax.tree.map(np.asarray, batch)
    assert len(np.unique(newer)) == 3 * stored, "all are sampled"
    lengths = set[int]()
    for k, back in enumerate(newer):
        row = 3 * stored - 1 - back
        env, i = row % 3, row // 3
        one = lanes[env]
        facts = one.reward, one.terminated, one.over, one.failed
        total, discount, last = q_learning.n_step(*facts, i, n, gamma, stored)
        lengths.add(last - i + 1)
        np.testing.assert_allclose(batch.reward[k], total, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(batch.discount[k], discount, rtol=1e-5)
        assert batch.obs[k] == one.obs[i] and batch.action[k] == one.action[i]
        assert batch.next_obs[k] == one.next_obs[last]
        assert batch.weight[k] == (not one.failed[i])
    assert lengths == set(range(1, n + 1))


@pytest.mark.parametrize(
    ("kind", "limit", "discounts"),
    [
        # Cut off after its first step, at an observation of which the value follows.
        (DISCOUNTED, 1, {(0.0, 1.0): 0.5}),
        # Its second step ends it by both its own rules and the limit.
        (DISCOUNTED, 2, {(0.0, 1.0): 0.5, (1.0, 1.0): 0.0}),
        (DISCOUNTED, 9, {(0.0, 1.0): 0.5, (1.0, 1.0): 0.0}),
        (CONSTANT, 1, {(0.0, 0.0): 0.0}),
    ],
)
def test_a_value_follows_a_time_limit_but_no_termination(
    kind: int, limit: int, discounts: Any
) -> None:
    task = rx.make(Probe(jnp.asarray(kind)), max_steps=limit)
    trainer = dqn(task=task, network=mlp(1, 2), gamma=0.5)
    buffer = start(trainer).buffer
    _, batch = _replayed(buffer, jr.key(0), 99, trainer.gamma, 2, 1)
    rows = zip(batch.obs[:, 0], batch.next_obs[:, 0], batch.discount, strict=True)
    assert {(float(a), float(b)): float(d) for a, b, d in rows} == discounts
    # Two steps go no further than an episode.
    _, batch = _replayed(buffer, jr.key(0), 99, trainer.gamma, 2, 2)
    assert jnp.all(batch.discount <= (0.5 if limit == 1 else 0.25))


# --- What a run does ---


def _stored(buffer: Any) -> Any:
    """All rows, with the leading axes `(steps, envs)`."""
    rows = buffer.rows(jnp.arange(int(buffer.stored)))
    return jax.tree.map(lambda x: np.asarray(x).reshape(-1, 2, *x.shape[1:]), rows)


def _several(make: Any) -> Any:
    """A trainer whose sizes are rounded up to whole updates, of six steps each."""
    sizes = {"num_steps": 3, "gradient_steps": 5, "learning_starts": 1999}
    return make(total_timesteps=2017, buffer_size=2009, **sizes)


@functools.cache
def _played(make: Any) -> Any:
    return start(_several(make))


@pytest.mark.parametrize("make", [td3, dqn], ids=["continuous", "discrete"])
def test_the_first_steps_are_random(make: Any) -> None:
    """They are uniform over the actions, and all of them are in the buffer."""
    state = _played(make)
    assert int(state.buffer.stored) == 2004 and state.buffer.capacity == 2010
    rows = _stored(state.buffer)
    assert rows.reward.shape == (1002, 2) and np.any(rows.terminated)
    # What a step leads to is what the next one sees, unless an episode begins there.
    goes_on = ~rows.over[:-1]
    np.testing.assert_array_equal(rows.next_obs[:-1][goes_on], rows.obs[1:][goes_on])
    assert not np.any(rows.next_obs[:-1][~goes_on] == rows.obs[1:][~goes_on])
    if make is dqn:
        shares = np.bincount(rows.action.ravel(), minlength=3) / 2004
        assert np.abs(shares - 1 / 3).max() < 5 * np.sqrt(2 / 9 / 2004)
        return
    u = (rows.action.reshape(-1, 2) - LOW) / np.subtract(HIGH, LOW)
    # Kolmogorov and Smirnov's distance, of which 1.95 has a probability of 0.001.
    for column in np.sort(u, axis=0).T:
        distance = np.abs(column - (np.arange(2004) + 0.5) / 2004).max()
        assert distance * np.sqrt(2004) < 1.95
    assert abs(np.corrcoef(u.T)[0, 1]) < 5 / np.sqrt(2004)


@pytest.mark.parametrize("make", [dqn, td3], ids=["DQN", "TD3"])
def test_several_environments_steps_and_batches(make: Any) -> None:
    """Sizes are rounded up to whole updates; all steps and batches are made."""
    trainer = _several(make)
    # 2004 at random, and three times 6.
    assert (trainer.learning_starts, trainer.buffer_size) == (2004, 2010)
    assert (trainer.train_steps, trainer.total_timesteps) == (3, 2022)
    first = _played(make)
    state, data = trainer.train(first, jr.key(1))
    assert int(state.buffer.stored) == 2010
    assert int(state.buffer.position) == 2022 % 2010
    assert data["metrics"]["value_loss"].shape == (3,)
    assert int(state.nets.skipped) == 0
    # The 18 steps of the run are in the last 6 places and in those of the oldest 12.
    old, new = (x.buffer.rows(jnp.arange(12, 2004)) for x in (first, state))
    assert same(old, new)
    old, new = (x.buffer.rows(jnp.arange(12)) for x in (first, state))
    assert not np.any(old.obs == new.obs)
    counts = [
        int(part.opt_state[0].count)
        for part in (getattr(state.nets, x, None) for x in ("online", "critics"))
        if part is not None
    ]
    assert counts == [15]
    if make is td3:
        assert int(state.nets.actor.opt_state[0].count) == 8, "every other batch"


class Keeper(rx.AbstractObserver):
    """Keeps each state that it is shown, which it must not."""

    handle: rx.Handle[list[Any]] = eqx.field(static=True, default_factory=rx.Handle)

    def on_chunk(self, steps: Any, selected: Any, state: Any) -> None:
        self.handle.value = [*(self.handle.value or []), state]


def _delayed(make: Any, train_steps: int) -> Any:
    """A trainer whose delays are no divisors of five.

    It is observed, so that runs of all lengths are one program.
    """
    own: dict[str, Any] = {"target_every": 3, "n_step": 2} if make is dqn else {}
    own |= {"normalize_obs": True, "callbacks": Keeper(every=2)}
    return make(train_steps=train_steps, **own)


@functools.cache
def _five_steps(make: Any) -> Any:
    """The states before them, shown after two, and after all."""
    trainer = _delayed(make, 5)
    state = start(dataclasses.replace(trainer, callbacks=()))
    last, _ = trainer.train(state, jr.key(1))
    return state, trainer.callbacks[0].handle.value[0], last


@eqx.filter_jit
def _policies(*trainers: Any) -> Any:
    return [one.nets(jr.key(5)).policy for one in trainers]


@pytest.mark.parametrize("make", [dqn, td3, sac], ids=["DQN", "TD3", "SAC"])
def test_a_trained_policy_goes_on(make: Any) -> None:
    """With its statistics of observations; and by evolution, on the same task."""
    trainer = make(normalize_obs=True)
    *_, state = _five_steps(td3 if make is sac else make)
    if make is sac:
        state = dataclasses.replace(state, nets=_two_nets(sac())[0])
    policy = trainer.params(state)
    assert isinstance(policy, rx.NormalizedPolicy)
    assert float(policy.stats.count) == 12 + 2 * 5
    argument = "network" if make is dqn else "actor"
    more = make(**{argument: policy})
    assert more.normalize_obs and same(more.first_stats, policy.stats)
    # Without its statistics, it begins as it is.
    bare = make(**{argument: policy.policy})
    assert not bare.normalize_obs and bare.first_stats is None
    arrays = lambda tree: eqx.filter(tree, eqx.is_array)
    for found in _policies(more, bare):
        assert same(arrays(found), arrays(policy.policy))
    if make is dqn:
        count = float(start(more).obs_stats.count)
        assert count == float(policy.stats.count) + 12

    def evolved(key: Any) -> Any:
        return rx.evolve(policy.policy, trainer.env, key, steps=2, popsize=4)[0]

    assert isinstance(eqx.filter_eval_shape(evolved, jr.key(0)), type(policy.policy))


@pytest.mark.parametrize("make", [dqn, td3], ids=["DQN", "TD3"])
def test_two_runs_of_five_steps_are_one_of_ten(make: Any) -> None:
    """Delays and schedules go on where they were."""
    state, _, half = _five_steps(make)
    whole, data = _delayed(make, 10).train(state, jr.key(1))
    again, more = _delayed(make, 5).train(half, jr.key(1))
    assert same(again, whole)
    late = jax.tree.map(lambda x: x[5:], data["metrics"])
    assert same(more["metrics"], late)


class Seeing(eqx.Module):
    """A small network on a dictionary with an image."""

    conv: eqx.nn.Conv2d
    last: eqx.nn.Linear

    def __init__(self, key: Any):
        self.conv = eqx.nn.Conv2d(3, 2, 3, key=key)
        self.last = eqx.nn.Linear(2 * 2 * 2 + 1, 3, key=key)

    def __call__(self, obs: Any) -> Any:
        image = jnp.moveaxis(obs["image"], -1, 0) / 255
        seen = jnp.ravel(jax.nn.relu(self.conv(image)))
        return self.last(jnp.concatenate([seen, obs["speed"]]))


def test_images_in_a_dictionary() -> None:
    """A network of one's own gets them as they are, and bytes are stored as bytes."""
    task = reach(discrete=True, shown=True, flatten_obs=False)
    trainer = dqn(task=task, network=Seeing, n_step=2)
    state, data = trainer.init_and_train(jr.key(0))
    kinds = {x.dtype.name: x.shape[1] for x in state.buffer.storage}
    assert kinds == {"uint8": 2 * 48, "float32": 2 + 1, "int32": 1, "bool": 3}
    assert isinstance(trainer.params(state).network, Seeing)
    assert int(data["metrics"]["skipped"][-1]) == 0
    total, _ = task(trainer.params(state), jr.key(1))
    assert jnp.isfinite(total)


@pytest.mark.parametrize("make", [dqn, pqn], ids=["DQN", "PQN"])
def test_learning_rates_and_seeds_in_one_program(make: Any) -> None:
    """Each lane is a run of its own; one is that of the trainer alone."""

    def run(rate: Any, key: Any) -> Any:
        state = make(learning_rate=rate).init_and_train_(key)
        parts = state.online if make is pqn else state.nets.online
        return parts.trained, parts.guard.skipped

    # No limit of the learning rate is none: such a step changes nothing.
    rates = jnp.array([1e-3, 1e-2, jnp.inf])
    keys = jr.split(jr.key(0), 2)
    grid = jnp.repeat(rates, 2), jnp.tile(keys, 3)
    trained, skipped = jax.jit(jax.vmap(run))(*grid)
    vectors = np.concatenate(
        [np.asarray(x).reshape(6, -1) for x in jax.tree.leaves(trained)], axis=1
    )
    assert np.all(np.isfinite(vectors)) and len(np.unique(vectors, axis=0)) == 6
    assert not np.any(skipped[:4]) and np.all(skipped[4:] > 0)
    if make is pqn:
        return  # `test_every_trainer.py` compares lanes of all trainers
    alone, _ = run(rates[1], keys[1])
    for x, y in zip(jax.tree.leaves(trained), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(x[3], y, rtol=1e-3, atol=1e-5)


def test_states_of_other_trainers() -> None:
    state = dqn().init_and_train_(jr.key(0))
    with pytest.raises(TypeError, match="must be a PQNState .*got a OffPolicyState"):
        pqn().train(state, jr.key(0))
    with pytest.raises(TypeError, match="must be a OffPolicyState .*got a PQNState"):
        dqn().train(start(pqn()), jr.key(0))
    with pytest.raises(ValueError, match="match the result of .* of this TD3"):
        td3().train(state, jr.key(0))


def test_a_state_that_was_written_over() -> None:
    _, early, last = _five_steps(dqn)
    with pytest.raises(ValueError, match="a run wrote over .*the run returned"):
        _delayed(dqn, 5).train(early, jr.key(0))
    _delayed(dqn, 5).train(last, jr.key(0))


class Quiet(rx.BasePolicy[Any]):
    """A policy without memory, whose state is an empty tuple."""

    net: Any

    def initialize(self, key: Any) -> Any:
        return ()

    def __call__(self, obs: Any, state: Any, key: Any) -> Any:
        return self.net(obs), state


def test_a_policy_whose_state_is_empty() -> None:
    quiet = dqn(network=lambda key: Quiet(mlp(3, 3)(key)))
    state = eqx.filter_eval_shape(quiet.init_and_train_, jr.key(0))
    assert isinstance(quiet.params(state).network, Quiet)
