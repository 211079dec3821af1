"""The plain numpy implementations of DQN and PQN beside jax's derivatives and optax."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from realax.training.rl._layer_norm import LayerNorm

from .ppo_by_numpy import Moments
from .q_by_numpy import (
    Batch,
    Experience,
    Numbers,
    dqn_update,
    forward,
    lambda_returns,
    moments_of,
    n_step,
    pqn_update,
)
from .test_ppo_by_numpy import network


OBS, ACTIONS, ROWS = 3, 4, 12
STEPS, ENVS, EPOCHS = 9, 4, 2


def optimizer(n: Any) -> Any:
    adam = optax.adam(n.learning_rate, n.b1, n.b2, n.eps)
    if n.max_norm is None:
        return adam
    return optax.chain(optax.clip_by_global_norm(n.max_norm), adam)


def apply(layers: Any, x: Any) -> Any:
    """The network with ReLU, or with a normalisation in front of each."""
    *hidden, (weight, bias) = layers
    normalized = any(w.ndim == 1 for w, _ in hidden)
    for w, b in hidden:
        if w.ndim == 1:
            x = jax.nn.standardize(x, epsilon=1e-5) * w + b
        else:
            x = jnp.einsum("ij,...j->...i", w, x) + b
        if w.ndim == 1 or not normalized:
            x = jax.nn.relu(x)
    return jnp.einsum("ij,...j->...i", weight, x) + bias


def q_of(layers: Any, obs: Any, dueling: bool) -> Any:
    output = apply(layers, obs)
    if not dueling:
        return output
    advantages = output[..., :ACTIONS]
    return output[..., ACTIONS:] + advantages - jnp.mean(advantages, -1, keepdims=True)


def mean(x: Any, weight: Any) -> Any:
    return jnp.sum(jnp.where(weight == 1, x, 0)) / jnp.maximum(jnp.sum(weight), 1)


def stepper(n: Numbers, loss_of: Any) -> Any:
    """A compiled step of optax on a network, of the same terms."""

    def loss(layers: Any, obs: Any, actions: Any, targets: Any, weight: Any) -> Any:
        q = q_of(layers, obs, n.dueling)
        q = jnp.take_along_axis(q, actions[:, None], 1)[:, 0]
        return mean(loss_of(q, targets), weight), mean(q, weight)

    @jax.jit
    def step(layers: Any, state: Any, *rows: Any) -> Any:
        (value, q), gradients = jax.value_and_grad(loss, has_aux=True)(layers, *rows)
        updates, state = optimizer(n).update(gradients, state, layers)
        terms = {"loss": value, "q": q, "grad_norm": optax.tree.norm(gradients)}
        return optax.apply_updates(layers, updates), state, terms

    return step


def close(ours: Any, theirs: Any) -> None:
    ours, theirs = jax.tree.leaves(ours), jax.tree.leaves(theirs)
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-9)


def close_moments(moments: Moments, state: Any) -> None:
    adam = (optax.tree_utils.tree_get(state, x) for x in ("count", "mu", "nu"))
    close(moments, list(adam))


@pytest.mark.parametrize(
    "n",
    [
        Numbers(learning_rate=0.02, max_norm=0.1),
        Numbers(0.02, None, double=False, dueling=True, b1=0.8, b2=0.9, eps=1e-3),
        Numbers(0.02, 0.3, double=True, dueling=True),
    ],
    ids=["double", "dueling", "both"],
)
def test_steps_of_dqn_are_those_of_jax_and_optax(n: Numbers) -> None:
    rng = np.random.default_rng(0)
    sizes = OBS, 6, 5, ACTIONS + n.dueling
    online, target = network(rng, *sizes), network(rng, *sizes)
    moments, differ, large = moments_of(online), False, False
    with jax.enable_x64(True):
        theirs: Any = jax.tree.map(jnp.asarray, online)
        state, step = optimizer(n).init(theirs), stepper(n, optax.l2_loss)
        for i in range(4):
            obs, next_obs = rng.normal(size=(2, ROWS, OBS))
            # The last batch has no row that counts.
            weight = (rng.random(ROWS) < 0.7) * (i < 3)
            actions = rng.integers(0, ACTIONS, ROWS)
            discount = 0.9 * (rng.random(ROWS) < 0.8)
            rewards = rng.normal(size=ROWS)
            batch = Batch(obs, actions, rewards, discount, next_obs, weight)

            following = q_of(target, next_obs, n.dueling)
            choice = jnp.argmax(q_of(theirs, next_obs, n.dueling), 1)
            differ |= bool(jnp.any(choice != jnp.argmax(following, 1)))
            best = jnp.max(following, 1)
            if n.double:
                best = jnp.take_along_axis(following, choice[:, None], 1)[:, 0]
            targets = rewards + discount * best
            theirs, state, expected = step(
                theirs, state, obs, actions, targets, weight * 1.0
            )
            online, moments, terms = dqn_update(online, target, moments, batch, n)
            close(terms, expected)
            large |= terms["grad_norm"] > 0.3 and terms["loss"] > 0.5
        close(online, theirs)
        close_moments(moments, state)
    # The problem reaches what clips, and where both networks choose differently.
    assert differ and large


def experience_of(rng: Any) -> Experience:
    obs = rng.normal(size=(STEPS + 1, ENVS, OBS))
    ends = rng.random((2, STEPS, ENVS)) < 0.2
    over, failed = ends[0] | ends[1], rng.random((STEPS, ENVS)) < 0.2
    next_obs = np.where(over[..., None], rng.normal(size=obs[1:].shape), obs[1:])
    rewards, actions = rng.normal(size=failed.shape), rng.integers(0, 4, failed.shape)
    return Experience(obs[:-1], actions, rewards, ends[0], over, failed, next_obs)


def by_definition(experience: Experience, values: Any, following: Any, n: Any) -> Any:
    """Each target as a mean of returns of 1 step, of 2 steps and so on."""
    _, _, rewards, terminated, over, failed, _ = experience
    targets = np.array(values)
    for t, env in np.argwhere(~failed):
        returns, total = [], 0.0
        for k in range(STEPS - t):
            if failed[t + k, env]:
                break
            total += n.gamma**k * rewards[t + k, env]
            ahead = 0.0 if terminated[t + k, env] else following[t + k, env]
            returns.append(total + n.gamma ** (k + 1) * ahead)
            if over[t + k, env]:
                break
        weights = (1 - n.lam) * n.lam ** np.arange(len(returns))
        weights[-1] = n.lam ** (len(returns) - 1)
        targets[t, env] = np.dot(weights, returns)
    return targets


@pytest.mark.parametrize(
    "n",
    [Numbers(0.02, 0.5, minibatches=4), Numbers(0.05, None, minibatches=3, lam=0.9)],
    ids=["clipped", "free"],
)
def test_an_update_of_pqn_is_that_of_jax_and_optax(n: Numbers) -> None:
    rng = np.random.default_rng(1)
    first, second, last = network(rng, OBS, 6, 5, ACTIONS)
    norms = [(1 + rng.normal(size=x) / 4, rng.normal(size=x) / 4) for x in (6, 5)]
    before = [first, norms[0], second, norms[1], last]
    experience = experience_of(rng)
    orders = np.stack([rng.permutation(STEPS * ENVS) for _ in range(EPOCHS)])
    after, moments, terms = pqn_update(
        before, moments_of(before), experience, orders, n
    )
    with jax.enable_x64(True):
        theirs: Any = jax.tree.map(jnp.asarray, before)
        values, following = (
            np.asarray(apply(theirs, obs).max(-1))
            for obs in (experience.obs, experience.next_obs)
        )
        targets = by_definition(experience, values, following, n)
        columns = experience.obs, experience.actions, targets, 1.0 - experience.failed
        columns = [x.reshape(-1, *x.shape[2:]) for x in columns]
        state, step = optimizer(n).init(theirs), stepper(n, optax.l2_loss)
        expected: Any = []
        for index in orders.reshape(EPOCHS * n.minibatches, -1):
            rows = (x[index] for x in columns)
            theirs, state, row = step(theirs, state, *rows)
            expected.append(row)
        close(terms, expected)
        close(after, theirs)
        close_moments(moments, state)
    assert max(row["grad_norm"] for row in terms) > 0.5


def test_a_normalisation_is_that_of_equinox() -> None:
    rng = np.random.default_rng(2)
    weight, bias, x = rng.normal(size=(3, 7))
    with jax.enable_x64(True):
        layer = eqx.nn.LayerNorm(7, eps=1e-5)
        layer = eqx.tree_at(lambda x: (x.weight, x.bias), layer, (weight, bias))
        expected = layer(jnp.asarray(x))
    layers = [(np.eye(7), np.zeros(7)), (weight, bias), (np.eye(7), np.zeros(7))]
    ours = forward(layers, x[None])[2][0]
    np.testing.assert_allclose(ours, np.maximum(expected, 0), 1e-9)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_the_normalisation_of_the_default_network_is_that_of_equinox(
    dtype: Any,
) -> None:
    weight, bias, x = jr.normal(jr.key(0), (3, 5, 64), dtype) + 3
    names = lambda layer: (layer.weight, layer.bias)
    theirs = eqx.tree_at(names, eqx.nn.LayerNorm(64), (weight[0], bias[0]))
    ours = eqx.tree_at(names, LayerNorm(64), (weight[0], bias[0]))

    def score(inputs: Any) -> Any:
        layer, x = inputs
        return jnp.sum(jnp.sin(jax.vmap(layer)(x).astype(jnp.float32)))

    gradient = jax.value_and_grad(score)
    atol = 1e-5 if dtype == jnp.float32 else 2e-2
    for got, expected in zip(
        jax.tree.leaves(gradient((ours, x))),
        jax.tree.leaves(gradient((theirs, x))),
        strict=True,
    ):
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, 1e-3, atol)
    assert ours(x[0]).dtype == dtype


def test_what_is_not_known_of_a_failed_step_reaches_no_target() -> None:
    experience = experience_of(np.random.default_rng(3))
    failed = experience.failed
    unknown = experience._replace(rewards=np.where(failed, math.nan, 1.0))
    values = np.ones((STEPS, ENVS))
    targets = lambda_returns(unknown, values, np.where(failed, math.nan, 1), Numbers())
    assert failed.any() and np.isfinite(targets).all()


@pytest.mark.parametrize("n", [1, 3, 30])
def test_targets_of_n_steps_end_where_they_should(n: int) -> None:
    rng, size, stored, gamma = np.random.default_rng(4), 40, 33, 0.9
    rewards, terminated = rng.normal(size=size), rng.random(size) < 0.1
    over, failed = terminated | (rng.random(size) < 0.1), rng.random(size) < 0.1
    for i in range(stored):
        ends = np.flatnonzero(over[i:stored])[:1], np.flatnonzero(failed[i + 1 :])[:1]
        last = min([n - 1, stored - 1 - i, *ends[0], *ends[1]]) + i
        total = np.polynomial.polynomial.polyval(gamma, rewards[i : last + 1])
        discount = 0.0 if terminated[last] else gamma ** (last + 1 - i)
        ours = n_step(rewards, terminated, over, failed, i, n, gamma, stored)
        np.testing.assert_allclose(np.array(ours) - [total, discount, last], 0, 0, 1e-9)
