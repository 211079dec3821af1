"""The plain numpy implementation of PPO beside jax's derivatives and optax."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from .ppo_by_numpy import (
    Experience,
    Numbers,
    Parameters,
    advantages_of,
    first_moments,
    leaves,
    update,
)


STEPS, ENVS, EPOCHS = 12, 4, 3
OBS, ACTIONS = 3, 2


def network(rng: Any, *sizes: int) -> list[tuple[Any, Any]]:
    return [
        (rng.normal(size=(n, m)) / math.sqrt(m), 0.1 * rng.normal(size=n))
        for m, n in zip(sizes[:-1], sizes[1:], strict=True)
    ]


def problem(rng: Any, discrete: bool) -> tuple[Parameters, Experience]:
    """Networks, and experience of somewhat other ones, so that much is clipped."""
    actor = network(rng, OBS, 5, 6, ACTIONS)
    log_std = None if discrete else 0.3 * rng.normal(size=ACTIONS)
    parameters = Parameters(actor, network(rng, OBS, 6, 5, 1), log_std)
    obs = rng.normal(size=(STEPS + 1, ENVS, OBS))
    ends = rng.integers(0, 4, (2, STEPS, ENVS)) == 0
    over = (ends[0] | ends[1])[..., None]
    next_obs = np.where(over, rng.normal(size=obs[1:].shape), obs[1:])
    if discrete:
        actions = rng.integers(0, ACTIONS, (STEPS, ENVS))
    else:
        actions = rng.normal(size=(STEPS, ENVS, ACTIONS))
    parameters_then = jax.tree.map(jnp.asarray, parameters)
    log_probs = distribution(parameters_then, obs[:-1], actions)[0]
    log_probs = np.asarray(log_probs) + 0.2 * rng.normal(size=(STEPS, ENVS))
    rewards = 3 * rng.normal(size=(STEPS, ENVS))
    rows = obs[:-1], actions, log_probs, rewards, *ends, next_obs
    return parameters, Experience(*rows)


def apply(layers: Any, x: Any) -> Any:
    *hidden, (weight, bias) = layers
    for w, b in hidden:
        x = jnp.tanh(jnp.einsum("ij,...j->...i", w, x) + b)
    return jnp.einsum("ij,...j->...i", weight, x) + bias


def distribution(parameters: Any, obs: Any, actions: Any) -> tuple[Any, Any]:
    """Log-probabilities and the mean entropy."""
    output = apply(parameters.actor, obs)
    if parameters.log_std is None:
        log_p = jax.nn.log_softmax(output)
        taken = jnp.take_along_axis(log_p, actions[..., None], -1)[..., 0]
        return taken, -jnp.mean(jnp.sum(jnp.exp(log_p) * log_p, -1))
    std = jnp.exp(parameters.log_std)
    entropy = jnp.sum(0.5 * jnp.log(2 * jnp.pi * jnp.e * std**2))
    log_prob = jax.scipy.stats.norm.logpdf(actions, output, std)
    return jnp.sum(log_prob, -1), entropy


def loss(parameters: Any, batch: dict[str, Any], n: Numbers) -> Any:
    advantages = batch["advantages"]
    if n.normalize:
        advantages = jax.nn.standardize(advantages, epsilon=0.0)
    log_prob, entropy = distribution(parameters, batch["obs"], batch["actions"])
    ratio = jnp.exp(log_prob - batch["log_probs"])
    clipped = jnp.clip(ratio, 1 - n.clip, 1 + n.clip)
    policy_loss = -jnp.mean(jnp.minimum(ratio * advantages, clipped * advantages))
    value, old = apply(parameters.critic, batch["obs"])[..., 0], batch["values"]
    squares = (value - batch["targets"]) ** 2
    if n.value_clip is not None:
        near = jnp.clip(value, old - n.value_clip, old + n.value_clip)
        squares = jnp.maximum(squares, (near - batch["targets"]) ** 2)
    value_loss = 0.5 * jnp.mean(squares)
    return policy_loss + n.value_coef * value_loss - n.entropy_coef * entropy


def by_definition(experience: Experience, values: Any, next_values: Any, n: Any) -> Any:
    """Each advantage as a sum over the rest of its episode."""
    deltas = experience.rewards - values
    deltas += n.gamma * np.where(experience.terminated, 0.0, next_values)
    over = experience.terminated | experience.truncated
    advantages = np.zeros_like(deltas)
    for t, env in np.ndindex(*deltas.shape):
        for later in range(t, STEPS):
            weight = (n.gamma * n.gae_lambda) ** (later - t)
            advantages[t, env] += weight * deltas[later, env]
            if over[later, env]:
                break
    return advantages


@pytest.mark.parametrize("discrete", [True, False])
@pytest.mark.parametrize(
    "n",
    [
        Numbers(learning_rate=0.02),
        Numbers(value_clip=None, normalize=False, max_norm=None, entropy_coef=0.3),
        Numbers(2, 0.05, 0.9, 0.5, 0.05, 0.05, 1.5, 0.0, 1e3),
    ],
    ids=["usual", "without", "other"],
)
def test_an_update_is_that_of_jax_and_optax(discrete: bool, n: Numbers) -> None:
    rng = np.random.default_rng(int(discrete))
    with jax.enable_x64(True):
        before, experience = problem(rng, discrete)
        orders = np.stack([rng.permutation(STEPS * ENVS) for _ in range(EPOCHS)])
        after, moments, terms = update(
            before, first_moments(before), experience, orders, n
        )

        parameters = jax.tree.map(jnp.asarray, before)
        values, next_values = (
            np.asarray(apply(parameters.critic, obs)[..., 0])
            for obs in (experience.obs, experience.next_obs)
        )
        advantages = by_definition(experience, values, next_values, n)
        rows = dict(zip(Experience._fields, experience, strict=True))
        rows |= {"values": values, "advantages": advantages}
        rows["targets"] = advantages + values
        rows = {name: x.reshape(-1, *x.shape[2:]) for name, x in rows.items()}
        clip = optax.clip_by_global_norm(n.max_norm or math.inf)
        adam = optax.adam(n.learning_rate, n.b1, n.b2, n.eps)
        optimizer = optax.chain(clip if n.max_norm else optax.identity(), adam)
        state = optimizer.init(parameters)
        step = jax.jit(jax.value_and_grad(lambda p, batch: loss(p, batch, n)))
        losses = []
        for index in orders.reshape(EPOCHS * n.minibatches, -1):
            batch = {name: x[index] for name, x in rows.items()}
            value, gradients = step(parameters, batch)
            updates, state = optimizer.update(gradients, state, parameters)
            parameters = optax.apply_updates(parameters, updates)
            losses.append(float(value))

    np.testing.assert_allclose([row["loss"] for row in terms], losses, 1e-6)
    pairs = zip(leaves(after), leaves(parameters), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)
    adam_state = (optax.tree_utils.tree_get(state, name) for name in ("mu", "nu"))
    for ours, theirs in zip((moments.first, moments.second), adam_state, strict=True):
        for x, y in zip(ours, leaves(theirs), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-9)
    assert moments.count == EPOCHS * n.minibatches
    # The problem reaches what clips.
    assert max(row["clip_fraction"] for row in terms) > 0.1
    assert max(row["grad_norm"] for row in terms) > 0.5


def test_values_go_through_truncation_only() -> None:
    zeros = np.zeros((1, 3))
    ends = np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0]])
    experience = Experience(zeros, zeros, zeros, zeros + 2, *ends, zeros)
    advantages = advantages_of(experience, zeros + 5, zeros + 10, Numbers(gamma=0.5))
    np.testing.assert_array_equal(advantages, [[2 - 5, 2 + 5 - 5, 2 + 5 - 5]])
