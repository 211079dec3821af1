"""PPO on CartPole-v1 in one file of plain JAX: what a trainer's speed is measured by.

It has no guard, no options at run time and no way to resume. A whole training is one
compiled scan. What was tried to make it fast on a CPU, with times, is in the log.

- Random numbers of a rollout's actions are drawn at once, and an action is the
  category that a uniform number falls into.
- The rollout computes logits only. Values and log-probabilities follow in one batch.
- Environments are restarted only after steps at which some episode ended, and final
  observations are valued only in rollouts in which some episode was truncated.
- A shuffle is one sort of one array: the upper bits of each number are random, and the
  lower ones say which transition it is. Transitions are rows of one array, which are
  gathered once for all epochs.
"""

import functools
import math
from typing import Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import jax.random as jr
import optax


ENVS, STEPS = 16, 128  # of a rollout
EPOCHS, MINIBATCHES = 4, 4  # passes over a rollout, and the steps of Adam in each
GAMMA, GAE_LAMBDA = 0.99, 0.95
CLIP = 0.2  # how far a ratio of probabilities counts from 1
VALUE_CLIP: float | None = 0.2  # how far a value counts from the old one; None for any
VALUE_COEF, ENTROPY_COEF = 0.5, 0.01
MAX_NORM, LEARNING_RATE = 0.5, 2.5e-4
HIDDEN, OBS, ACTIONS = (64, 64), 4, 2

SIZE = ENVS * STEPS
INDEX_BITS = (SIZE - 1).bit_length()
ENV, ENV_PARAMS = gymnax.make("CartPole-v1")
OPTIMIZER = optax.chain(
    optax.clip_by_global_norm(MAX_NORM), optax.adam(LEARNING_RATE, eps=1e-5)
)


class Envs(NamedTuple):
    """The environments side by side, and the returns of their episodes so far."""

    obs: Any
    state: Any
    returns: Any


class Rows(NamedTuple):
    """A rollout, of the shape `(steps, envs, ...)`. `next_obs` is before a restart."""

    obs: Any
    actions: Any
    logits: Any
    rewards: Any
    terminated: Any
    truncated: Any
    next_obs: Any


class Training(NamedTuple):
    """What goes from one update to the next."""

    params: Any
    opt_state: Any
    envs: Envs
    mean_return: Any


def init_params(key: Any) -> Any:
    """Orthogonal matrices, each a corner of a square one: one program makes all."""
    sizes = (OBS, *HIDDEN)
    layers = len(sizes)
    square = jax.nn.initializers.orthogonal()
    shape = (max(sizes), max(sizes))
    draws = jax.vmap(lambda key: square(key, shape))(jr.split(key, 2 * layers))

    def net(draws: Any, outputs: int, last_scale: float) -> Any:
        scales = (*[math.sqrt(2)] * len(HIDDEN), last_scale)
        shapes = zip(sizes, (*HIDDEN, outputs), strict=True)
        return [
            (scale * draw[:m, :n], jnp.zeros(n))
            for draw, scale, (m, n) in zip(draws, scales, shapes, strict=True)
        ]

    actor = net(draws[:layers], ACTIONS, 0.01)
    return {"actor": actor, "critic": net(draws[layers:], 1, 1.0)}


def apply(net: Any, x: Any) -> Any:
    *hidden, (weight, bias) = net
    for w, b in hidden:
        x = jnp.tanh(x @ w + b)
    return x @ weight + bias


def init_envs(key: Any) -> Envs:
    obs, state = jax.vmap(ENV.reset_env, (0, None))(jr.split(key, ENVS), ENV_PARAMS)
    # Time starts as a Python number, and would change its type in the first step.
    state = jax.tree.map(lambda x: jnp.asarray(x, x.dtype), state)
    return Envs(obs, state, jnp.zeros(ENVS))


def init(key: Any) -> Training:
    params_key, env_key = jr.split(key)
    params = init_params(params_key)
    return Training(params, OPTIMIZER.init(params), init_envs(env_key), jnp.nan)


def step_envs(obs: Any, state: Any, actions: Any, key: Any) -> tuple[Any, Any, Any]:
    """Observations and states to go on from, and what the step gave."""
    step = jax.vmap(ENV.step_env, (None, 0, 0, None))
    next_obs, next_state, rewards, terminated, _ = step(key, state, actions, ENV_PARAMS)
    over_time = jax.vmap(ENV.is_truncated, (0, None))(next_state, ENV_PARAMS)
    truncated = over_time & ~terminated
    done = terminated | truncated

    def restart() -> Any:
        keys = jr.split(key, ENVS)
        fresh = jax.vmap(ENV.reset_env, (0, None))(keys, ENV_PARAMS)

        def choose(new: Any, old: Any) -> Any:
            return jnp.where(done.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        return jax.tree.map(choose, fresh, (next_obs, next_state))

    onward = jax.lax.cond(jnp.any(done), restart, lambda: (next_obs, next_state))
    return *onward, (rewards, terminated, truncated, next_obs)


def act(actor: Any, obs: Any, uniform: Any) -> tuple[Any, Any]:
    """Actions and logits; each uniform number falls into one of the categories."""
    logits = apply(actor, obs)
    upper_ends = jnp.cumsum(jax.nn.softmax(logits), -1)[..., :-1]
    return jnp.sum(uniform[..., None] > upper_ends, -1), logits


def rollout(actor: Any, envs: Envs, key: Any) -> tuple[Any, Any, Rows]:
    action_key, env_key = jr.split(key)

    def body(carry: Any, inputs: Any) -> Any:
        obs, state = carry
        uniform, t = inputs
        actions, logits = act(actor, obs, uniform)
        # CartPole uses its key at restarts alone: it is computed there.
        *carry, given = step_envs(obs, state, actions, jr.fold_in(env_key, t))
        return tuple(carry), Rows(obs, actions, logits, *given)

    inputs = jr.uniform(action_key, (STEPS, ENVS)), jnp.arange(STEPS)
    (obs, state), rows = jax.lax.scan(body, (envs.obs, envs.state), inputs)
    return obs, state, rows


def episode_returns(before: Any, rows: Rows) -> tuple[Any, Any]:
    """Returns so far after the rollout, and those of the episode at each step."""
    done = rows.terminated | rows.truncated

    def body(returns: Any, inputs: Any) -> Any:
        reward, done = inputs
        returns = returns + reward
        return jnp.where(done, 0.0, returns), returns

    return jax.lax.scan(body, before, (rows.rewards, done))


def advantages_of(critic: Any, rows: Rows, last_obs: Any) -> tuple[Any, Any]:
    """Advantages and values of the steps."""
    value_of = lambda obs: apply(critic, obs)[..., 0]
    values = value_of(jnp.concatenate([rows.obs, last_obs[None]]))
    next_values = jax.lax.cond(
        jnp.any(rows.truncated),
        lambda: jnp.where(rows.truncated, value_of(rows.next_obs), values[1:]),
        lambda: values[1:],
    )
    values = values[:-1]
    next_values = jnp.where(rows.terminated, 0.0, next_values)
    deltas = rows.rewards + GAMMA * next_values - values
    decay = jnp.where(rows.terminated | rows.truncated, 0.0, GAMMA * GAE_LAMBDA)

    def body(following: Any, inputs: Any) -> Any:
        delta, decay = inputs
        advantage = delta + decay * following
        return advantage, advantage

    zeros = jnp.zeros(ENVS)
    _, advantages = jax.lax.scan(body, zeros, (deltas, decay), reverse=True)
    return advantages, values


def log_prob_of(log_p: Any, actions: Any) -> Any:
    return jnp.take_along_axis(log_p, actions[..., None], -1)[..., 0]


def loss(params: Any, batch: Any) -> Any:
    obs, numbers = batch[:, :OBS], batch[:, OBS:].T
    actions, old_log_prob, advantages, old_values = numbers
    targets = advantages + old_values
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

    log_p = jax.nn.log_softmax(apply(params["actor"], obs))
    ratio = jnp.exp(log_prob_of(log_p, actions.astype(jnp.int32)) - old_log_prob)
    clipped = jnp.clip(ratio, 1 - CLIP, 1 + CLIP)
    policy_loss = -jnp.mean(jnp.minimum(ratio * advantages, clipped * advantages))
    entropy = -jnp.mean(jnp.sum(jnp.exp(log_p) * log_p, -1))

    values = apply(params["critic"], obs)[:, 0]
    squares = (values - targets) ** 2
    if VALUE_CLIP is not None:
        near = old_values + jnp.clip(values - old_values, -VALUE_CLIP, VALUE_CLIP)
        squares = jnp.maximum(squares, (near - targets) ** 2)
    value_loss = 0.5 * jnp.mean(squares)
    return policy_loss + VALUE_COEF * value_loss - ENTROPY_COEF * entropy


def orders(key: Any) -> Any:
    """Shuffles of all transitions, of the shape `(epochs, SIZE)`."""
    low = jnp.uint32(2**INDEX_BITS - 1)
    numbers = jr.bits(key, (EPOCHS, SIZE), jnp.uint32) & ~low
    return jnp.sort(numbers | jnp.arange(SIZE, dtype=jnp.uint32)) & low


def learn(params: Any, opt_state: Any, table: Any, key: Any) -> tuple[Any, Any]:
    """Epochs of minibatches over the rows of a table."""
    minibatches = table[orders(key).reshape(EPOCHS * MINIBATCHES, -1)]

    def body(carry: Any, batch: Any) -> Any:
        params, opt_state = carry
        updates, opt_state = OPTIMIZER.update(jax.grad(loss)(params, batch), opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    return jax.lax.scan(body, (params, opt_state), minibatches)[0]


def table_of(critic: Any, rows: Rows, last_obs: Any) -> Any:
    """A row for each transition: observation, action, log-probability and so on."""
    advantages, values = advantages_of(critic, rows, last_obs)
    log_probs = log_prob_of(jax.nn.log_softmax(rows.logits), rows.actions)
    columns = rows.actions.astype(jnp.float32), log_probs, advantages, values
    table = jnp.concatenate([rows.obs, jnp.stack(columns, -1)], -1)
    return table.reshape(SIZE, -1)


def update(training: Training, key: Any) -> tuple[Training, Any]:
    """One rollout, and what is learned from it."""
    params, opt_state, envs, mean_return = training
    rollout_key, learn_key = jr.split(key)
    obs, state, rows = rollout(params["actor"], envs, rollout_key)
    table = table_of(params["critic"], rows, obs)
    params, opt_state = learn(params, opt_state, table, learn_key)

    returns, of_episodes = episode_returns(envs.returns, rows)
    done = rows.terminated | rows.truncated
    ended = jnp.sum(done)
    mean = jnp.sum(jnp.where(done, of_episodes, 0.0)) / jnp.maximum(ended, 1)
    mean_return = jnp.where(ended > 0, mean, mean_return)
    envs = Envs(obs, state, returns)
    return Training(params, opt_state, envs, mean_return), mean_return


@functools.partial(jax.jit, static_argnames="updates")
def train(key: Any, updates: int) -> tuple[Training, Any]:
    """A whole training, and the mean return of the episodes that ended, by update."""
    init_key, key = jr.split(key)
    return jax.lax.scan(update, init(init_key), jr.split(key, updates))
