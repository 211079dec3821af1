"""One update of PPO in plain numpy and float64, with every gradient derived by hand.

Written from the equations of "Proximal Policy Optimization Algorithms" (Schulman et
al., 2017), "High-Dimensional Continuous Control Using Generalized Advantage
Estimation" (Schulman et al., 2016) and "Adam" (Kingma and Ba, 2015), as something that
implementations in JAX are compared with.

A network is a list of layers `(W, b)`, of which `W` has the shape `(outputs, inputs)`;
tanh follows all layers but the last.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np


type Layers = list[tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Hyperparameters. With None, values or gradients are not clipped."""

    minibatches: int = 4
    learning_rate: float = 2.5e-4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    value_clip: float | None = 0.2
    value_coef: float = 0.5
    entropy_coef: float = 0.01
    max_norm: float | None = 0.5
    normalize: bool = True
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-5


class Experience(NamedTuple):
    """Arrays with leading axes `(steps, envs)`.

    `actions` are integers, or have a last axis of real numbers. `next_obs` is what the
    step itself led to, also where an episode ended there.
    """

    obs: Any
    actions: Any
    log_probs: Any
    rewards: Any
    terminated: Any
    truncated: Any
    next_obs: Any


class Parameters(NamedTuple):
    """Both networks, and the logarithms of the standard deviations of real actions."""

    actor: Layers
    critic: Layers
    log_std: Any = None


class Moments(NamedTuple):
    """What Adam remembers of each array of `leaves(parameters)`."""

    count: int
    first: list[Any]
    second: list[Any]


def leaves(parameters: Parameters) -> list[Any]:
    """All arrays: the actor's W and b by layer, the critic's, and `log_std` if any."""
    arrays = [x for layer in (*parameters.actor, *parameters.critic) for x in layer]
    return arrays if parameters.log_std is None else [*arrays, parameters.log_std]


def rebuilt(parameters: Parameters, arrays: list[Any]) -> Parameters:
    """Parameters of the same structure with other arrays."""
    rest = iter(arrays)
    actor = [(next(rest), next(rest)) for _ in parameters.actor]
    critic = [(next(rest), next(rest)) for _ in parameters.critic]
    return Parameters(actor, critic, next(rest, None))


def first_moments(parameters: Parameters) -> Moments:
    """Adam's moments before the first update."""
    zeros = [np.zeros(np.shape(x)) for x in leaves(parameters)]
    return Moments(0, zeros, [x.copy() for x in zeros])


def forward(layers: Layers, x: Any) -> list[Any]:
    """The input, what each hidden layer gives, and the output. Rows are examples."""
    outputs = [x]
    for i, (weight, bias) in enumerate(layers):
        x = x @ weight.T + bias
        if i < len(layers) - 1:
            x = np.tanh(x)
        outputs.append(x)
    return outputs


def backward(layers: Layers, outputs: list[Any], cotangent: Any) -> Layers:
    """Gradients of all layers by that of the output."""
    gradients: Layers = []
    for i in reversed(range(len(layers))):
        gradients.insert(0, (cotangent.T @ outputs[i], cotangent.sum(0)))
        # The derivative of tanh by its own value. What comes before the first layer is
        # the input, whose gradient is not asked for.
        cotangent = cotangent @ layers[i][0] * (1 - outputs[i] ** 2)
    return gradients


def advantages_of(
    experience: Experience, values: Any, next_values: Any, n: Numbers
) -> Any:
    """Generalised advantages, of the shape `(steps, envs)`.

    A terminated episode is worth nothing from there on. A truncated one is worth what
    its final observation is. Neither goes on into the next step.
    """
    goes_on = 1.0 - experience.terminated
    deltas = experience.rewards + n.gamma * goes_on * next_values - values
    advantages, following = np.zeros_like(deltas), np.zeros(deltas.shape[1])
    for t in reversed(range(len(deltas))):
        same_episode = goes_on[t] * (1.0 - experience.truncated[t])
        following = deltas[t] + n.gamma * n.gae_lambda * same_episode * following
        advantages[t] = following
    return advantages


def categorical(logits: Any, actions: Any) -> tuple[Any, Any, Any, Any]:
    """Log-probabilities and entropies, and the gradients of both by the logits."""
    log_p = logits - logits.max(1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(1, keepdims=True))
    p = np.exp(log_p)
    entropy = -(p * log_p).sum(1)
    taken = np.eye(logits.shape[1])[actions]
    by_entropy = -p * (log_p + entropy[:, None])
    return (taken * log_p).sum(1), entropy, taken - p, by_entropy


def normal(mean: Any, log_std: Any, actions: Any) -> tuple[Any, Any, Any, Any]:
    """Log-probabilities and entropies, and the gradients of the former.

    They are by the mean and by `log_std`. That of an entropy by `log_std` is 1.
    """
    z = (actions - mean) / np.exp(log_std)
    log_prob = (-0.5 * z**2 - log_std - 0.5 * np.log(2 * np.pi)).sum(1)
    entropy = np.full(len(mean), (log_std + 0.5 * np.log(2 * np.pi * np.e)).sum())
    return log_prob, entropy, z / np.exp(log_std), z**2 - 1


def gradient(
    parameters: Parameters, batch: dict[str, Any], n: Numbers
) -> tuple[list[Any], dict[str, float]]:
    """Gradients of a minibatch's loss, in the order of `leaves`, and its terms."""
    size = len(batch["obs"])
    actor = forward(parameters.actor, batch["obs"])
    if parameters.log_std is None:
        distribution = categorical(actor[-1], batch["actions"])
        log_prob, entropy, by_output, entropy_by_output = distribution
    else:
        distribution = normal(actor[-1], parameters.log_std, batch["actions"])
        log_prob, entropy, by_output, by_log_std = distribution
        entropy_by_output = 0.0
    advantages = batch["advantages"]
    if n.normalize:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

    # The smaller of two products. Where the clipped one is smaller, the ratio is
    # outside of the interval, and does not matter.
    log_ratio = log_prob - batch["log_probs"]
    ratio = np.exp(log_ratio)
    plain = ratio * advantages
    clipped = np.clip(ratio, 1 - n.clip, 1 + n.clip) * advantages
    policy_loss = -np.minimum(plain, clipped).mean()
    by_log_prob = np.where(plain <= clipped, -plain, 0.0) / size
    weight = n.entropy_coef / size
    cotangent = by_log_prob[:, None] * by_output - weight * entropy_by_output
    actor_gradient = backward(parameters.actor, actor, cotangent)

    # The larger of two squares. Where that of the clipped value is larger, the value is
    # outside of the interval, and does not matter.
    critic = forward(parameters.critic, batch["obs"])
    error = critic[-1][:, 0] - batch["targets"]
    squares, by_value = error**2, error
    if n.value_clip is not None:
        change = critic[-1][:, 0] - batch["values"]
        held = np.clip(change, -n.value_clip, n.value_clip)
        held_squares = (batch["values"] + held - batch["targets"]) ** 2
        outside = np.abs(change) > n.value_clip
        by_value = np.where(outside & (held_squares > squares), 0.0, error)
        squares = np.where(outside, np.maximum(squares, held_squares), squares)
    value_loss = 0.5 * squares.mean()
    cotangent = n.value_coef * by_value[:, None] / size
    critic_gradient = backward(parameters.critic, critic, cotangent)

    log_std_gradient = None
    if parameters.log_std is not None:
        log_std_gradient = (by_log_prob[:, None] * by_log_std).sum(0) - n.entropy_coef
    gradients = leaves(Parameters(actor_gradient, critic_gradient, log_std_gradient))
    terms = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy.mean(),
        "loss": policy_loss
        + n.value_coef * value_loss
        - n.entropy_coef * entropy.mean(),
        "approx_kl": (ratio - 1 - log_ratio).mean(),
        "clip_fraction": (np.abs(ratio - 1) > n.clip).mean(),
        "grad_norm": np.sqrt(sum((g**2).sum() for g in gradients)),
    }
    return gradients, terms


def adam(
    arrays: list[Any], gradients: list[Any], moments: Moments, n: Numbers
) -> tuple[list[Any], Moments]:
    """A step of Adam by gradients that are scaled down to the largest norm."""
    if n.max_norm is not None:
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        gradients = [g * min(1.0, n.max_norm / norm) for g in gradients]
    count = moments.count + 1
    first = [
        n.b1 * m + (1 - n.b1) * g for m, g in zip(moments.first, gradients, strict=True)
    ]
    second = [
        n.b2 * v + (1 - n.b2) * g**2
        for v, g in zip(moments.second, gradients, strict=True)
    ]
    arrays = [
        x
        - n.learning_rate
        * (m / (1 - n.b1**count))
        / (np.sqrt(v / (1 - n.b2**count)) + n.eps)
        for x, m, v in zip(arrays, first, second, strict=True)
    ]
    return arrays, Moments(count, first, second)


def update(
    parameters: Parameters,
    moments: Moments,
    experience: Experience,
    permutations: Any,
    n: Numbers,
) -> tuple[Parameters, Moments, list[dict[str, float]]]:
    """One update: advantages, and then epochs of minibatches.

    **Arguments:**

    - `parameters`, `moments`: before the update.
    - `experience`: what the actor did.
    - `permutations`: of the shape `(epochs, steps * envs)`. Row `e` is the order of
        epoch `e` of the transitions, which are counted along the envs first; its first
        part is the first minibatch.
    - `n`: hyperparameters.

    **Returns:** Parameters and moments after the update, and the terms of each
    minibatch's loss, before the step on it.
    """
    parameters = rebuilt(
        parameters, [np.asarray(x, np.float64) for x in leaves(parameters)]
    )
    experience = Experience(
        *(
            x if x.dtype.kind in "iu" else x.astype(np.float64)
            for x in map(np.asarray, experience)
        )
    )
    values, next_values = (
        forward(parameters.critic, obs)[-1][..., 0]
        for obs in (experience.obs, experience.next_obs)
    )
    advantages = advantages_of(experience, values, next_values, n)
    rows = {
        "obs": experience.obs,
        "actions": experience.actions,
        "log_probs": experience.log_probs,
        "values": values,
        "advantages": advantages,
        "targets": advantages + values,
    }
    rows = {name: x.reshape(-1, *x.shape[2:]) for name, x in rows.items()}
    all_terms: list[dict[str, float]] = []
    for order in permutations:
        for index in np.split(np.asarray(order), n.minibatches):
            batch = {name: x[index] for name, x in rows.items()}
            gradients, terms = gradient(parameters, batch, n)
            arrays, moments = adam(leaves(parameters), gradients, moments, n)
            parameters = rebuilt(parameters, arrays)
            all_terms.append(terms)
    return parameters, moments, all_terms
