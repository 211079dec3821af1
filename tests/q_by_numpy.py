"""Updates of DQN and PQN in plain numpy and float64, with gradients derived by hand.

Written from the equations of "Human-level control through deep reinforcement learning"
(Mnih et al., 2015), "Deep Reinforcement Learning with Double Q-learning" (van Hasselt
et al., 2016), "Dueling Network Architectures" (Wang et al., 2016) and "Simplifying Deep
Temporal Difference Learning" (Gallici et al., 2025), as something that implementations
in JAX are compared with.

A network is a list of layers `(W, b)`, of which `W` has the shape `(outputs, inputs)`.
One with a `W` of the shape `(features,)` normalises its input over the features, then
scales and shifts it. ReLU follows all layers but the last and those in front of these.
"""

from typing import Any, NamedTuple

import numpy as np

from .ppo_by_numpy import Layers, Moments, Parameters, adam, first_moments, leaves


class Numbers(NamedTuple):
    """Hyperparameters. With `max_norm` None, gradients are not clipped."""

    learning_rate: float = 1e-3
    max_norm: float | None = 10.0
    double: bool = True
    dueling: bool = False
    minibatches: int = 4
    gamma: float = 0.99
    lam: float = 0.65
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8


class Batch(NamedTuple):
    """Rows, which count if `weight` is 1. `discount` is of the value of `next_obs`."""

    obs: Any
    actions: Any
    rewards: Any
    discount: Any
    next_obs: Any
    weight: Any


class Experience(NamedTuple):
    """Arrays with leading axes `(steps, envs)`.

    `over` is where an episode ended for any reason, and `next_obs` what the step itself
    led to, also there. Nothing is learned from a `failed` step.
    """

    obs: Any
    actions: Any
    rewards: Any
    terminated: Any
    over: Any
    failed: Any
    next_obs: Any


def doubles(tree: Any) -> Any:
    """The same lists and tuples with float64 in place of all arrays but integers."""
    if isinstance(tree, list | tuple):
        items = map(doubles, tree)
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    x = np.asarray(tree)
    return x if x.dtype.kind in "iu" else x.astype(np.float64)


def moments_of(layers: Layers) -> Moments:
    """Adam's moments before the first step on a network."""
    return first_moments(Parameters(layers, []))


def step(
    layers: Layers, gradients: Layers, moments: Moments, n: Any
) -> tuple[Layers, Moments]:
    """A step of Adam on a network."""
    arrays, by_array = (leaves(Parameters(x, [])) for x in (layers, gradients))
    if not any(map(np.any, by_array)):
        # There is nothing to clip, and no norm to divide by.
        n = n._replace(max_norm=None)
    arrays, moments = adam(arrays, by_array, moments, n)
    return list(zip(arrays[::2], arrays[1::2], strict=True)), moments


def weighted_mean(x: Any, weight: Any) -> Any:
    """The mean over the rows that count, and 0 where none does."""
    return (weight * x).sum() / max(weight.sum(), 1.0)


def rectified(layers: Layers, i: int) -> bool:
    """Whether ReLU follows layer `i`."""
    return i < len(layers) - 1 and np.ndim(layers[i + 1][0]) == 2


def standardized(x: Any) -> tuple[Any, Any]:
    """`x` with mean 0 and variance 1 over the features, and what it was divided by."""
    std = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return (x - x.mean(-1, keepdims=True)) / std, std


def forward(layers: Layers, x: Any) -> list[Any]:
    """The input, what each hidden layer gives, and the output. Rows are examples."""
    outputs = [x]
    for i, (weight, bias) in enumerate(layers):
        normal = np.ndim(weight) == 1
        x = (standardized(x)[0] * weight if normal else x @ weight.T) + bias
        outputs.append(x := np.maximum(x, 0.0) if rectified(layers, i) else x)
    return outputs


def backward(layers: Layers, outputs: list[Any], cotangent: Any) -> tuple[Layers, Any]:
    """Gradients of all layers and that of the input by that of the output."""
    gradients: Layers = []
    for i in reversed(range(len(layers))):
        weight = layers[i][0]
        if rectified(layers, i):
            cotangent = cotangent * (outputs[i + 1] > 0)
        if np.ndim(weight) == 2:
            gradients.insert(0, (cotangent.T @ outputs[i], cotangent.sum(0)))
            cotangent = cotangent @ weight
            continue
        z, std = standardized(outputs[i])
        gradients.insert(0, ((cotangent * z).sum(0), cotangent.sum(0)))
        by_z = cotangent * weight
        # What would move the mean or the variance of a row has no effect.
        by_z = by_z - by_z.mean(-1, keepdims=True)
        cotangent = (by_z - z * (by_z * z).mean(-1, keepdims=True)) / std
    return gradients, cotangent


def q_values(output: Any, dueling: bool) -> Any:
    """The value of each action. A dueling network's last output is that of all."""
    if not dueling:
        return output
    advantages, value = output[..., :-1], output[..., -1:]
    return value + advantages - advantages.mean(-1, keepdims=True)


def regress(
    layers: Layers, moments: Moments, rows: Any, n: Numbers
) -> tuple[Layers, Moments, dict[str, float]]:
    """A step towards targets by half of the squared error."""
    obs, actions, targets, weight = rows
    outputs = forward(layers, obs)
    q = q_values(outputs[-1], n.dueling)
    taken = np.eye(q.shape[1])[actions]
    value = (q * taken).sum(1)
    error = value - targets
    by_value = (weight * error / max(weight.sum(), 1.0))[:, None]
    cotangent = by_value * taken
    if n.dueling:
        # The value of all adds to each action, and from each the mean is subtracted.
        by_advantages = cotangent - cotangent.mean(1, keepdims=True)
        cotangent = np.concatenate([by_advantages, by_value], 1)
    gradients, _ = backward(layers, outputs, cotangent)
    terms = {
        "loss": weighted_mean(0.5 * error**2, weight),
        "q": weighted_mean(value, weight),
        "grad_norm": np.sqrt(sum((x**2).sum() for xs in gradients for x in xs)),
    }
    return *step(layers, gradients, moments, n), terms


def dqn_update(
    online: Layers, target: Layers, moments: Moments, batch: Batch, n: Numbers
) -> tuple[Layers, Moments, dict[str, float]]:
    """One step of the online network, whose `moments` are given.

    Returned with both are terms: the loss, the mean value of the actions that were
    taken and the norm of the gradient before it is clipped, all before the step.
    """
    online, target, batch = doubles((online, target, batch))
    following = q_values(forward(target, batch.next_obs)[-1], n.dueling)
    chooser = online if n.double else target
    choice = q_values(forward(chooser, batch.next_obs)[-1], n.dueling).argmax(1)
    best = following[np.arange(len(choice)), choice]
    targets = batch.rewards + batch.discount * best
    rows = batch.obs, batch.actions, targets, batch.weight
    return regress(online, moments, rows, n)


def n_step(
    rewards: Any,
    terminated: Any,
    over: Any,
    failed: Any,
    i: int,
    n: int,
    gamma: float,
    stored: int,
) -> tuple[float, float, int]:
    """A target of up to `n` steps from transition `i` of the `stored` ones of one env.

    Returned are the sum of rewards, the discount of the value of what the last of the
    transitions led to, and the index of this one.
    """
    total, k = float(rewards[i]), 1
    while k < n and not over[i + k - 1] and i + k < stored and not failed[i + k]:
        total += gamma**k * float(rewards[i + k])
        k += 1
    last = i + k - 1
    return total, gamma**k * (1.0 - float(terminated[last])), last


def lambda_returns(
    experience: Experience, values: Any, next_values: Any, n: Numbers
) -> Any:
    """Targets of the shape `(steps, envs)`, by the best values at both observations."""
    _, _, rewards, terminated, over, failed, _ = doubles(experience)
    # At the last step both that are mixed are the same value.
    targets, following = np.zeros_like(values), next_values[-1]
    for t in reversed(range(len(values))):
        mixed = (1 - n.lam) * next_values[t] + n.lam * following
        ahead = np.where(over[t] > 0, next_values[t], mixed)
        following = rewards[t] + n.gamma * (1 - terminated[t]) * ahead
        # A failed step is worth its own value to the one before it.
        targets[t] = following = np.where(failed[t] > 0, values[t], following)
    return targets


def pqn_update(
    layers: Layers, moments: Moments, experience: Experience, orders: Any, n: Numbers
) -> tuple[Layers, Moments, list[dict[str, float]]]:
    """Targets by the network as it is, and then epochs of minibatches.

    `orders` is that of `ppo_by_numpy.update`. Returned are the terms of each minibatch,
    as of `dqn_update`.
    """
    layers, experience = doubles((layers, experience))
    values, next_values = (
        q_values(forward(layers, obs)[-1], n.dueling).max(-1)
        for obs in (experience.obs, experience.next_obs)
    )
    targets = lambda_returns(experience, values, next_values, n)
    columns = experience.obs, experience.actions, targets, 1.0 - experience.failed
    columns = [x.reshape(-1, *x.shape[2:]) for x in columns]
    all_terms: list[dict[str, float]] = []
    for order in orders:
        for index in np.split(np.asarray(order), n.minibatches):
            rows = [x[index] for x in columns]
            layers, moments, terms = regress(layers, moments, rows, n)
            all_terms.append(terms)
    return layers, moments, all_terms
