"""PQN on CartPole-v1 in one file of plain JAX: what a trainer's speed is measured by.

It has no guard, no options at run time and no way to resume. A whole run is one
compiled scan, of which each step is an update: a rollout and what is learned from it.

- The network is one vector, and so Adam and the norm of the gradient are few operations
  instead of some for each matrix.
- Random numbers of a rollout's actions are drawn at once. The best value of each
  observation is kept from choosing the action, so that only the last observations are
  valued once more.
- Environments are restarted only after steps at which some episode ended, and final
  observations are valued only in rollouts in which some episode was truncated.
- A shuffle is one sort of one array: the upper bits of each number are random, and the
  lower ones say which transition it is. Transitions are rows of one array, which are
  gathered once for all epochs.
"""

import functools
import itertools
import math
from typing import Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.flatten_util import ravel_pytree


ENVS, STEPS = 32, 32  # of a rollout
EPOCHS, MINIBATCHES = 4, 8  # passes over a rollout, and the steps of Adam in each
LEARNING_RATE, MAX_NORM = 1e-3, 10.0
GAMMA, TD_LAMBDA = 0.99, 0.65
EPSILON_START, EPSILON_END, EPSILON_STEPS = 1.0, 0.05, 50_000
HIDDEN, OBS, ACTIONS = (64, 64), 4, 2

SIZE = ENVS * STEPS
INDEX_BITS = (SIZE - 1).bit_length()
ENV, ENV_PARAMS = gymnax.make("CartPole-v1")
OPTIMIZER = optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adam(LEARNING_RATE))


class Envs(NamedTuple):
    """The environments side by side, and the returns of their episodes so far."""

    obs: Any
    state: Any
    returns: Any


class Rows(NamedTuple):
    """A rollout, of the shape `(steps, envs, ...)`. `next_obs` is before a restart."""

    obs: Any
    actions: Any
    best_values: Any
    rewards: Any
    terminated: Any
    truncated: Any
    next_obs: Any
    returns: Any


class Training(NamedTuple):
    """What goes from one update to the next."""

    params: Any
    opt_state: Any
    played: Any  # steps, of all environments together
    envs: Envs
    last_return: Any  # the mean of the episodes that ended last


def init_net(key: Any) -> Any:
    """Uniform weights and biases, of at most one over the root of the inputs.

    A hidden layer also has the scale and the offset of its normalisation.
    """
    sizes = (OBS, *HIDDEN, ACTIONS)
    net = []
    for i, (m, n) in enumerate(itertools.pairwise(sizes)):
        draw = jr.uniform(jr.fold_in(key, i), (m + 1, n), minval=-1, maxval=1)
        draw = draw / math.sqrt(m)
        net.append((draw[:m], draw[m], jnp.ones(n), jnp.zeros(n)))
    return [*net[:-1], net[-1][:2]]


def unravel(params: Any) -> Any:
    return ravel_pytree(jax.eval_shape(init_net, jr.key(0)))[1](params)


def apply(params: Any, x: Any) -> Any:
    *hidden, (weight, bias) = unravel(params)
    for w, b, scale, offset in hidden:
        x = x @ w + b
        x = jax.nn.standardize(x, epsilon=1e-5) * scale + offset
        x = jax.nn.relu(x)
    return x @ weight + bias


def init_envs(key: Any) -> Envs:
    obs, state = jax.vmap(ENV.reset_env, (0, None))(jr.split(key, ENVS), ENV_PARAMS)
    # Time starts as a Python number, and would change its type in the first step.
    state = jax.tree.map(lambda x: jnp.asarray(x, x.dtype), state)
    return Envs(obs, state, jnp.zeros(ENVS))


def step_envs(envs: Envs, actions: Any, key: Any) -> tuple[Envs, Any]:
    """The environments to go on from, and what the step gave."""
    step = jax.vmap(ENV.step_env, (None, 0, 0, None))
    # CartPole uses its key at restarts alone: it is computed there.
    next_obs, state, rewards, terminated, _ = step(key, envs.state, actions, ENV_PARAMS)
    over_time = jax.vmap(ENV.is_truncated, (0, None))(state, ENV_PARAMS)
    truncated = over_time & ~terminated
    done = terminated | truncated
    returns = envs.returns + rewards

    def restart() -> Envs:
        keys = jr.split(key, ENVS)
        fresh = jax.vmap(ENV.reset_env, (0, None))(keys, ENV_PARAMS)

        def choose(new: Any, old: Any) -> Any:
            return jnp.where(done.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        obs, restarted = jax.tree.map(choose, fresh, (next_obs, state))
        return Envs(obs, restarted, jnp.where(done, 0.0, returns))

    onward = lambda: Envs(next_obs, state, returns)
    envs = jax.lax.cond(jnp.any(done), restart, onward)
    return envs, (rewards, terminated, truncated, next_obs, returns)


def rollout(params: Any, envs: Envs, played: Any, key: Any) -> tuple[Envs, Rows]:
    """Play with one epsilon; one uniform number decides whether and which action."""
    action_key, env_key = jr.split(key)
    share = jnp.minimum(played / EPSILON_STEPS, 1.0)
    epsilon = EPSILON_START + share * (EPSILON_END - EPSILON_START)
    uniform = jr.uniform(action_key, (STEPS, ENVS))
    # Below epsilon, a number over epsilon is uniform again.
    chosen = jnp.minimum(uniform / epsilon * ACTIONS, ACTIONS - 1).astype(jnp.int32)

    def body(envs: Envs, inputs: Any) -> tuple[Envs, Rows]:
        explores, chosen, t = inputs
        values = apply(params, envs.obs)
        actions = jnp.where(explores, chosen, jnp.argmax(values, -1))
        onward, given = step_envs(envs, actions, jr.fold_in(env_key, t))
        return onward, Rows(envs.obs, actions, jnp.max(values, -1), *given)

    return jax.lax.scan(body, envs, (uniform < epsilon, chosen, jnp.arange(STEPS)))


def targets_of(params: Any, rows: Rows, last_obs: Any) -> Any:
    """The lambda returns of the steps."""
    best_of = lambda obs: jnp.max(apply(params, obs), -1)
    next_values = jnp.concatenate([rows.best_values[1:], best_of(last_obs)[None]])
    next_values = jax.lax.cond(
        jnp.any(rows.truncated),
        lambda: jnp.where(rows.truncated, best_of(rows.next_obs), next_values),
        lambda: next_values,
    )
    next_values = jnp.where(rows.terminated, 0.0, next_values)
    # The last step, and the last of an episode, take the value alone.
    goes_on = ~(rows.terminated | rows.truncated).at[-1].set(True)
    decay = jnp.where(goes_on, TD_LAMBDA, 0.0)
    alone = rows.rewards + GAMMA * (1 - decay) * next_values

    def body(following: Any, inputs: Any) -> Any:
        alone, decay = inputs
        target = alone + GAMMA * decay * following
        return target, target

    inputs = alone, decay
    return jax.lax.scan(body, jnp.zeros(ENVS), inputs, reverse=True)[1]


def loss(params: Any, batch: Any) -> Any:
    obs, actions, targets = batch[:, :OBS], batch[:, OBS], batch[:, OBS + 1]
    actions = actions.astype(jnp.int32)[:, None]
    of_actions = jnp.take_along_axis(apply(params, obs), actions, -1)[:, 0]
    return 0.5 * jnp.mean((of_actions - targets) ** 2)


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


def update(training: Training, key: Any) -> tuple[Training, Any]:
    """One rollout, and what is learned from it."""
    params, opt_state, played, envs, last_return = training
    rollout_key, learn_key = jr.split(key)
    envs, rows = rollout(params, envs, played, rollout_key)
    targets = targets_of(params, rows, envs.obs)
    columns = rows.actions.astype(jnp.float32), targets
    table = jnp.concatenate([rows.obs, jnp.stack(columns, -1)], -1).reshape(SIZE, -1)
    params, opt_state = learn(params, opt_state, table, learn_key)

    done = rows.terminated | rows.truncated
    mean = jnp.sum(jnp.where(done, rows.returns, 0.0)) / jnp.maximum(jnp.sum(done), 1)
    last_return = jnp.where(jnp.any(done), mean, last_return)
    training = Training(params, opt_state, played + SIZE, envs, last_return)
    return training, last_return


@jax.jit
def init(key: Any) -> Training:
    """A new network and new environments."""
    net_key, env_key = jr.split(key)
    params = ravel_pytree(init_net(net_key))[0]
    envs, played = init_envs(env_key), jnp.zeros((), jnp.int32)
    last_return = jnp.full((), jnp.nan)
    return Training(params, OPTIMIZER.init(params), played, envs, last_return)


@functools.partial(jax.jit, static_argnames="steps")
def run(training: Training, key: Any, steps: int) -> tuple[Training, Any]:
    """Make some updates, and return the mean return of the episodes that ended last."""
    return jax.lax.scan(update, training, jr.split(key, steps))


def train(key: Any, steps: int) -> tuple[Training, Any]:
    """A whole training."""
    init_key, key = jr.split(key)
    return run(init(init_key), key, steps)
