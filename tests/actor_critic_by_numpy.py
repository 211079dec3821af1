"""Updates of TD3, DDPG and SAC in plain numpy and float64, with gradients by hand.

Written from the equations of "Addressing Function Approximation Error in Actor-Critic
Methods" (Fujimoto et al., 2018), "Soft Actor-Critic Algorithms and Applications"
(Haarnoja et al., 2018) and "Soft Actor-Critic for Discrete Action Settings"
(Christodoulou, 2019), as something that implementations in JAX are compared with.

Networks are those of `q_by_numpy`. A critic of real actions takes an observation with
an action after it, and has one output. One of integers has an output for each action.
"""

from typing import Any, NamedTuple

import numpy as np

from .ppo_by_numpy import Layers, Moments, adam
from .q_by_numpy import (
    Batch,
    backward,
    doubles,
    forward,
    moments_of,
    step,
    weighted_mean,
)


class Numbers(NamedTuple):
    """Hyperparameters. Real actions are from `low` to `high`.

    With a `policy_delay` of 1, no `target_noise` and one critic, TD3 is DDPG. By a
    `max_norm` the gradient of the actor is clipped, and that of all critics together.
    """

    low: Any = -1.0
    high: Any = 1.0
    learning_rate: float = 3e-4
    tau: float = 0.005
    policy_delay: int = 2
    target_noise: float = 0.2
    noise_clip: float = 0.5
    target_entropy: float = -1.0
    max_norm: float | None = None
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8


class State(NamedTuple):
    """Networks, the logarithm of SAC's temperature, and Adam's moments.

    The critics share theirs. SAC leaves `target_actor` as it is, and TD3 `log_alpha`.
    """

    actor: Layers
    critics: list[Layers]
    target_actor: Layers
    target_critics: list[Layers]
    log_alpha: Any
    actor_moments: Moments
    critic_moments: Moments
    alpha_moments: Moments


def first_state(actor: Layers, critics: list[Layers], log_alpha: Any = 0.0) -> State:
    """Before the first update, where targets are as the networks."""
    zeros = [np.zeros(())]
    moments = moments_of(actor), moments_of(sum(critics, [])), Moments(0, zeros, zeros)
    return State(actor, critics, actor, critics, log_alpha, *moments)


def moved(target: Any, online: Any, tau: float) -> Any:
    """Lists of arrays after a move towards others."""
    if isinstance(target, list | tuple):
        pairs = zip(target, online, strict=True)
        return type(target)(moved(x, y, tau) for x, y in pairs)
    return target + tau * (online - target)


def squashed(raw: Any, n: Numbers) -> tuple[Any, Any]:
    """Actions between both bounds by any real numbers, and derivatives by these."""
    half = (n.high - n.low) / 2
    return n.low + half * (np.tanh(raw) + 1), half * (1 - np.tanh(raw) ** 2)


def smallest(critics: list[Layers], *inputs: Any) -> Any:
    """The smallest output of any critic."""
    x = np.concatenate(inputs, 1)
    return np.min([forward(critic, x)[-1] for critic in critics], 0)


def critic_step(
    state: State, batch: Batch, targets: Any, n: Numbers
) -> tuple[State, dict[str, float]]:
    """A step of all critics towards `targets`, and terms from before it."""
    real = np.ndim(batch.actions) == 2
    x = np.concatenate([batch.obs, batch.actions], 1) if real else batch.obs
    losses, values, gradients = [], [], []
    for critic in state.critics:
        outputs = forward(critic, x)
        taken = 1.0 if real else np.eye(outputs[-1].shape[1])[batch.actions]
        values.append((outputs[-1] * taken).sum(1))
        error = values[-1] - targets
        losses.append(weighted_mean(0.5 * error**2, batch.weight))
        by_value = batch.weight * error / max(batch.weight.sum(), 1.0)
        gradients += backward(critic, outputs, by_value[:, None] * taken)[0]
    layers = sum(state.critics, [])
    layers, moments = step(layers, gradients, state.critic_moments, n)
    rest = iter(layers)
    critics = [[next(rest) for _ in critic] for critic in state.critics]
    q = weighted_mean(np.mean(values, 0), batch.weight)
    terms: dict[str, float] = {"critic_loss": sum(losses), "q": q}
    return state._replace(critics=critics, critic_moments=moments), terms


def by_action(critics: list[Layers], obs: Any, actions: Any) -> tuple[Any, Any]:
    """The smallest value by any critic, and its gradient by the actions."""
    outputs = [forward(c, np.concatenate([obs, actions], 1)) for c in critics]
    values = np.stack([x[-1][:, 0] for x in outputs])
    least = np.eye(len(critics))[values.argmin(0)]
    rows = zip(critics, outputs, np.split(least, len(critics), 1), strict=True)
    gradient: Any = sum(backward(*row)[1] for row in rows)
    return values.min(0), gradient[:, obs.shape[1] :]


def actor_step(
    state: State, batch: Batch, outputs: Any, losses: Any, by_output: Any, n: Numbers
) -> tuple[State, Any]:
    """A step of the actor by each row's loss, a move of targets, and the mean loss."""
    share = batch.weight[:, None] / max(batch.weight.sum(), 1.0)
    gradients, _ = backward(state.actor, outputs, share * by_output)
    actor, moments = step(state.actor, gradients, state.actor_moments, n)
    targets = moved(state.target_critics, state.critics, n.tau)
    state = state._replace(actor=actor, actor_moments=moments, target_critics=targets)
    return state, weighted_mean(losses, batch.weight)


def td3_update(
    state: State, batch: Batch, noise: Any, t: int, n: Numbers
) -> tuple[State, dict[str, float]]:
    """Update number `t`, counted from 0, with standard normal `noise` of the targets.

    Returned are also `critic_loss`, `q` of the actions taken and, if the actor moves,
    `actor_loss`, each from before its own step.
    """
    state, batch, noise = doubles((state, batch, noise))
    noise = np.clip(noise * n.target_noise, -n.noise_clip, n.noise_clip)
    actions, _ = squashed(forward(state.target_actor, batch.next_obs)[-1], n)
    actions = np.clip(actions + noise * (n.high - n.low) / 2, n.low, n.high)
    values = smallest(state.target_critics, batch.next_obs, actions)[:, 0]
    targets = batch.rewards + batch.discount * values
    state, terms = critic_step(state, batch, targets, n)
    if t % n.policy_delay != n.policy_delay - 1:
        return state, terms

    outputs = forward(state.actor, batch.obs)
    actions, by_raw = squashed(outputs[-1], n)
    q, by_actions = by_action(state.critics[:1], batch.obs, actions)
    state, loss = actor_step(state, batch, outputs, -q, -by_actions * by_raw, n)
    target_actor = moved(state.target_actor, state.actor, n.tau)
    return state._replace(target_actor=target_actor), terms | {"actor_loss": loss}


def sample(output: Any, noise: Any, n: Numbers) -> tuple[Any, Any, Any, Any]:
    """Numbers that are squashed to actions, and the log-probability of the latter.

    Then derivatives of the former by the second half of `output`, and of the latter.
    """
    mean, s = np.split(output, 2, 1)
    log_std = -5 + 0.5 * (2 + 5) * (np.tanh(s) + 1)
    by_s = 0.5 * (2 + 5) * (1 - np.tanh(s) ** 2)
    u = mean + np.exp(log_std) * noise
    normal = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
    # The logarithm of 1 - tanh(u)**2, of which the plain one is -inf at large u.
    slope = 2 * (np.log(2) - u - np.logaddexp(0, -2 * u))
    log_prob = (normal - np.log((n.high - n.low) / 2) - slope).sum(1)
    u_by_s = np.exp(log_std) * noise * by_s
    by_output = [2 * np.tanh(u), 2 * np.tanh(u) * u_by_s - by_s]
    return u, log_prob, u_by_s, np.concatenate(by_output, 1)


def log_softmax(logits: Any) -> Any:
    """Logarithms of the probabilities of actions."""
    return logits - np.logaddexp.reduce(logits, 1, keepdims=True)


def alpha_step(
    state: State, batch: Batch, log_prob: Any, terms: dict[str, float], n: Numbers
) -> tuple[State, dict[str, float]]:
    """A step of the temperature, and terms with those from before it."""
    slope = -weighted_mean(log_prob + n.target_entropy, batch.weight)
    unclipped: Any = n._replace(max_norm=None)
    arrays = [state.log_alpha], [slope]
    (log_alpha,), moments = adam(*arrays, state.alpha_moments, unclipped)
    entropy = -weighted_mean(log_prob, batch.weight)
    terms = terms | {"alpha_loss": state.log_alpha * slope, "entropy": entropy}
    return state._replace(log_alpha=log_alpha, alpha_moments=moments), terms


def sac_update(
    state: State, batch: Batch, next_noise: Any, noise: Any, n: Numbers
) -> tuple[State, dict[str, float]]:
    """With real actions, by standard normal noise of those at both observations.

    Returned are also the terms of `td3_update`, `alpha_loss` and `entropy`.
    """
    state, batch, next_noise, noise = doubles((state, batch, next_noise, noise))
    alpha = np.exp(state.log_alpha)
    output = forward(state.actor, batch.next_obs)[-1]
    u, log_prob, _, _ = sample(output, next_noise, n)
    actions, _ = squashed(u, n)
    values = smallest(state.target_critics, batch.next_obs, actions)[:, 0]
    targets = batch.rewards + batch.discount * (values - alpha * log_prob)
    state, terms = critic_step(state, batch, targets, n)

    outputs = forward(state.actor, batch.obs)
    u, log_prob, u_by_s, log_prob_by_output = sample(outputs[-1], noise, n)
    actions, by_u = squashed(u, n)
    q, by_actions = by_action(state.critics, batch.obs, actions)
    by_u = by_actions * by_u
    q_by_output = np.concatenate([by_u, by_u * u_by_s], 1)
    losses, by_output = alpha * log_prob - q, alpha * log_prob_by_output - q_by_output
    state, loss = actor_step(state, batch, outputs, losses, by_output, n)
    return alpha_step(state, batch, log_prob, terms | {"actor_loss": loss}, n)


def discrete_sac_update(
    state: State, batch: Batch, n: Numbers
) -> tuple[State, dict[str, float]]:
    """With integers as actions, of which means are taken by their probabilities."""
    state, batch = doubles((state, batch))
    alpha = np.exp(state.log_alpha)
    log_p = log_softmax(forward(state.actor, batch.next_obs)[-1])
    q = smallest(state.target_critics, batch.next_obs)
    values = (np.exp(log_p) * (q - alpha * log_p)).sum(1)
    targets = batch.rewards + batch.discount * values
    state, terms = critic_step(state, batch, targets, n)

    outputs = forward(state.actor, batch.obs)
    log_p = log_softmax(outputs[-1])
    p = np.exp(log_p)
    each = alpha * log_p - smallest(state.critics, batch.obs)
    losses = (p * each).sum(1)
    # The mean of the gradients of log-probabilities is 0.
    by_output = p * (each - losses[:, None])
    state, loss = actor_step(state, batch, outputs, losses, by_output, n)
    log_prob, terms = (p * log_p).sum(1), terms | {"actor_loss": loss}
    return alpha_step(state, batch, log_prob, terms, n)
