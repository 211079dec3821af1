"""The plain numpy implementations of TD3 and SAC beside jax's derivatives and optax."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from .actor_critic_by_numpy import (
    Numbers,
    State,
    discrete_sac_update,
    first_state,
    sac_update,
    sample,
    td3_update,
)
from .ppo_by_numpy import Moments
from .q_by_numpy import Batch
from .test_ppo_by_numpy import network
from .test_q_by_numpy import apply, close, close_moments, mean, optimizer


OBS, ACTIONS, ROWS, UPDATES = 3, 2, 12, 4
LOW, HIGH = np.array([-1.0, -2.0]), np.array([2.0, 0.5])


def batch_of(rng: Any, discrete: bool, i: int) -> Batch:
    obs, next_obs = rng.normal(size=(2, ROWS, OBS))
    actions: Any = LOW + (HIGH - LOW) * rng.random((ROWS, ACTIONS))
    if discrete:
        actions = rng.integers(0, ACTIONS, ROWS)
    discount = 0.9 * (rng.random(ROWS) < 0.8)
    # The last batch has no row that counts.
    weight = (rng.random(ROWS) < 0.7) * (i < UPDATES - 1) * 1.0
    return Batch(obs, actions, rng.normal(size=ROWS), discount, next_obs, weight)


def problem(rng: Any, outputs: int, critics: int, discrete: bool) -> State:
    """A state of which targets are other networks."""
    sizes = (OBS, 6, 5, ACTIONS) if discrete else (OBS + ACTIONS, 6, 5, 1)
    states = [
        first_state(
            network(rng, OBS, 5, 6, outputs),
            [network(rng, *sizes) for _ in range(critics)],
            np.array(-0.7),
        )
        for _ in range(2)
    ]
    targets = {"target_actor": states[1].actor, "target_critics": states[1].critics}
    return states[0]._replace(**targets)


def values_of(critics: Any, obs: Any, actions: Any = None) -> Any:
    x = obs if actions is None else jnp.concatenate([obs, actions], -1)
    values = jnp.stack([apply(critic, x) for critic in critics])
    return values if actions is None else values[..., 0]


def policy(actor: Any, obs: Any, noise: Any) -> tuple[Any, Any]:
    """Actions and their log-probabilities, by the density's change of variables."""
    output = apply(actor, obs)
    std = jnp.exp(-5 + 3.5 * (jnp.tanh(output[:, ACTIONS:]) + 1))
    u = output[:, :ACTIONS] + std * noise
    log_prob = jax.scipy.stats.norm.logpdf(u, output[:, :ACTIONS], std)
    log_prob -= jnp.log((HIGH - LOW) / 2 / jnp.cosh(u) ** 2)
    return LOW + (HIGH - LOW) * jax.nn.sigmoid(2 * u), jnp.sum(log_prob, 1)


def targets_of(p: State, batch: Batch, noise: Any, kind: str, n: Numbers) -> Any:
    alpha = jnp.exp(p.log_alpha)
    if kind == "td3":
        raw = apply(p.target_actor, batch.next_obs)
        change = jnp.clip(n.target_noise * noise[0], -n.noise_clip, n.noise_clip)
        actions = LOW + (HIGH - LOW) * (jax.nn.sigmoid(2 * raw) + change / 2)
        actions = jnp.clip(actions, LOW, HIGH)
        ahead = jnp.min(values_of(p.target_critics, batch.next_obs, actions), 0)
    elif kind == "sac":
        actions, log_prob = policy(p.actor, batch.next_obs, noise[0])
        values = values_of(p.target_critics, batch.next_obs, actions)
        ahead = jnp.min(values, 0) - alpha * log_prob
    else:
        log_p = jax.nn.log_softmax(apply(p.actor, batch.next_obs))
        values = jnp.min(values_of(p.target_critics, batch.next_obs), 0)
        ahead = jnp.sum(jnp.exp(log_p) * (values - alpha * log_p), 1)
    return batch.rewards + batch.discount * ahead


def critic_loss(critics: Any, batch: Batch, targets: Any) -> Any:
    if batch.actions.ndim == 2:
        q = values_of(critics, batch.obs, batch.actions)
    else:
        rows = jnp.arange(len(batch.actions))
        q = values_of(critics, batch.obs)[:, rows, batch.actions]
    loss = sum(mean(0.5 * (x - targets) ** 2, batch.weight) for x in q)
    return loss, mean(jnp.mean(q, 0), batch.weight)


def actor_loss(
    actor_and_log_alpha: Any, p: State, batch: Batch, noise: Any, kind: str, n: Numbers
) -> Any:
    """The sum of what the actor and the temperature minimise, and the terms."""
    actor, log_alpha = actor_and_log_alpha
    alpha, weight = jnp.exp(p.log_alpha), batch.weight
    if kind == "td3":
        raw = apply(actor, batch.obs)
        actions = LOW + (HIGH - LOW) * (jnp.tanh(raw) + 1) / 2
        loss = -mean(values_of(p.critics, batch.obs, actions)[0], weight)
        return loss, {"actor_loss": loss}
    if kind == "sac":
        actions, log_prob = policy(actor, batch.obs, noise[1])
        values = values_of(p.critics, batch.obs, actions)
        loss = mean(alpha * log_prob - jnp.min(values, 0), weight)
    else:
        logits = apply(actor, batch.obs)
        probs, log_p = jax.nn.softmax(logits), jax.nn.log_softmax(logits)
        values = jnp.min(values_of(p.critics, batch.obs), 0)
        loss = mean(jnp.sum(probs * (alpha * log_p - values), 1), weight)
        log_prob = jnp.sum(probs * log_p, 1)
    constant = jax.lax.stop_gradient(log_prob)
    alpha_loss = mean(-log_alpha * (constant + n.target_entropy), weight)
    terms = {"actor_loss": loss, "alpha_loss": alpha_loss}
    return loss + alpha_loss, terms | {"entropy": -mean(log_prob, weight)}


@functools.partial(jax.jit, static_argnames="kind")
def update(
    p: State, batch: Batch, noise: Any, n: Numbers, kind: str
) -> tuple[State, Any]:
    """An update in which the actor moves. Moments are optax's, in the same fields."""
    targets = targets_of(p, batch, noise, kind, n)

    def step(loss: Any, x: Any, state: Any, *rest: Any) -> Any:
        (value, extra), gradients = jax.value_and_grad(loss, has_aux=True)(x, *rest)
        updates, state = optimizer(n).update(gradients, state, x)
        return value, extra, optax.apply_updates(x, updates), state

    arguments = p.critics, p.critic_moments, batch, targets
    value, q, critics, state = step(critic_loss, *arguments)
    p = p._replace(critics=critics, critic_moments=state)
    terms = {"critic_loss": value, "q": q}
    loss = functools.partial(actor_loss, kind=kind, n=n)
    # One optimizer of both, as Adam is of each coordinate.
    arguments = (p.actor, p.log_alpha), p.actor_moments, p, batch, noise
    _, more, (actor, log_alpha), state = step(loss, *arguments)
    p = p._replace(actor=actor, log_alpha=log_alpha, actor_moments=state)
    follow = functools.partial(optax.incremental_update, step_size=n.tau)
    p = p._replace(target_critics=follow(p.critics, p.target_critics))
    if kind == "td3":
        p = p._replace(target_actor=follow(p.actor, p.target_actor))
    return p, terms | more


@pytest.mark.parametrize(
    ("kind", "critics", "n"),
    [
        ("td3", 2, Numbers(LOW, HIGH, 0.02, 0.1, 2, 0.4)),
        ("td3", 1, Numbers(LOW, HIGH, 0.02, 0.1, 1, 0.0, max_norm=0.1)),
        ("sac", 2, Numbers(LOW, HIGH, 0.02, 0.1, 1, target_entropy=-2.0)),
        ("discrete", 3, Numbers(LOW, HIGH, 0.02, 0.1, 1, target_entropy=0.6)),
    ],
    ids=["td3", "ddpg", "sac", "discrete"],
)
def test_updates_are_those_of_jax_and_optax(kind: str, critics: int, n: Any) -> None:
    rng, discrete = np.random.default_rng(0), kind == "discrete"
    outputs = 2 * ACTIONS if kind == "sac" else ACTIONS
    before = ours = problem(rng, outputs, critics, discrete)
    with jax.enable_x64(True):
        theirs: Any = jax.tree.map(jnp.asarray, before)
        theirs = theirs._replace(
            critic_moments=optimizer(n).init(theirs.critics),
            actor_moments=optimizer(n).init((theirs.actor, theirs.log_alpha)),
            alpha_moments=None,
        )
        for t in range(UPDATES):
            batch, noise = batch_of(rng, discrete, t), rng.normal(size=(2, ROWS, 2))
            if kind == "td3":
                ours, terms = td3_update(ours, batch, noise[0], t, n)
            elif kind == "sac":
                ours, terms = sac_update(ours, batch, noise[0], noise[1], n)
            else:
                ours, terms = discrete_sac_update(ours, batch, n)
            after, expected = update(theirs, batch, noise, n, kind)
            if (t + 1) % n.policy_delay:
                # Of the same program, what the critics do.
                keys = "critics", "critic_moments"
                after = theirs._replace(**{key: getattr(after, key) for key in keys})
                del expected["actor_loss"]
            theirs = after
            close(terms, expected)
        # All but the moments.
        close(ours[:5], theirs[:5])
        close_moments(ours.critic_moments, theirs.critic_moments)
        actor, alpha = ours.actor_moments, ours.alpha_moments
        both = actor.first + alpha.first, actor.second + alpha.second
        close_moments(Moments(actor.count, *both), theirs.actor_moments)
        assert alpha.count == (0 if kind == "td3" else UPDATES)
    # What should have moved did, and nothing of what was given changed in place.
    assert not np.array_equal(ours.critics[0][0][0], before.critics[0][0][0])
    assert (ours.log_alpha == before.log_alpha) == (kind == "td3")
    again = problem(np.random.default_rng(0), outputs, critics, discrete)
    jax.tree.map(np.testing.assert_array_equal, before, again)


def test_log_probabilities_of_actions_at_the_bounds_are_finite() -> None:
    output, n = np.array([[100.0, -100.0, 0.0, 0.0]]), Numbers()
    u, log_prob, _, gradient = sample(output, np.zeros((1, 2)), n)
    # The density of `u`, and the slope of tanh there, which is 4 exp(-2 |u|).
    expected = 2 * (1.5 - 0.5 * np.log(2 * np.pi) - np.log(4) + 200)
    np.testing.assert_allclose(log_prob, [expected])
    np.testing.assert_array_equal(u, output[:, :2])
    np.testing.assert_allclose(gradient, [[2.0, -2.0, -3.5, -3.5]])
