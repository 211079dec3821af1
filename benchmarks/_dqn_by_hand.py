"""DQN on CartPole-v1 in one file of plain JAX: what a trainer's speed is measured by.

It has no guard, no options at run time and no way to resume. A whole run is one
compiled scan, of which each step plays, stores, samples and learns.

- The network is one vector, and so Adam, the norm of the gradient and the copy into
  the target network are few operations instead of some for each matrix.
- The buffer is one array with a row for each transition, which is written by one slice
  and sampled by one gather. It is part of the carry and written in place.
- The uniform numbers of a step are drawn at once, for indices and for exploration.
- Environments are restarted only after steps at which some episode ended. What is
  stored is the observation before a restart, so that an episode that was cut off by
  the time limit is bootstrapped from.
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


ENVS = 1  # each of which plays one step for an update
BUFFER, BATCH = 10_000, 64
LEARNING_STARTS = 1_000  # steps of uniformly random actions before the first update
LEARNING_RATE, MAX_NORM = 1e-3, 10.0
GAMMA = 0.99
EPSILON_START, EPSILON_END, EPSILON_STEPS = 1.0, 0.05, 10_000
TARGET_EVERY = 500  # updates
HIDDEN, OBS, ACTIONS = (64, 64), 4, 2

ENV, ENV_PARAMS = gymnax.make("CartPole-v1")
OPTIMIZER = optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adam(LEARNING_RATE))


class Envs(NamedTuple):
    """The environments side by side, and the returns of their episodes so far."""

    obs: Any
    state: Any
    returns: Any


class Training(NamedTuple):
    """What goes from one step to the next."""

    params: Any
    target: Any
    opt_state: Any
    table: Any  # a row: observation, action, reward, whether it goes on, the next one
    played: Any  # steps, of all environments together
    updates: Any
    envs: Envs
    last_return: Any  # the mean of the episodes that ended last


def init_net(key: Any) -> Any:
    """Uniform weights and biases, of at most one over the root of the inputs."""
    sizes = (OBS, *HIDDEN, ACTIONS)
    net = []
    for i, (m, n) in enumerate(itertools.pairwise(sizes)):
        draw = jr.uniform(jr.fold_in(key, i), (m + 1, n), minval=-1, maxval=1)
        draw = draw / math.sqrt(m)
        net.append((draw[:m], draw[m]))
    return net


def unravel(params: Any) -> Any:
    return ravel_pytree(jax.eval_shape(init_net, jr.key(0)))[1](params)


def apply(params: Any, x: Any) -> Any:
    *hidden, (weight, bias) = unravel(params)
    for w, b in hidden:
        x = jax.nn.relu(x @ w + b)
    return x @ weight + bias


def init_envs(key: Any) -> Envs:
    obs, state = jax.vmap(ENV.reset_env, (0, None))(jr.split(key, ENVS), ENV_PARAMS)
    # Time starts as a Python number, and would change its type in the first step.
    state = jax.tree.map(lambda x: jnp.asarray(x, x.dtype), state)
    return Envs(obs, state, jnp.zeros(ENVS))


def step_envs(envs: Envs, actions: Any, key: Any) -> tuple[Envs, Any, Any, Any]:
    """The environments to go on from, rows for the buffer, and what ended."""
    step = jax.vmap(ENV.step_env, (None, 0, 0, None))
    # CartPole uses its key at restarts alone.
    next_obs, state, rewards, terminated, _ = step(key, envs.state, actions, ENV_PARAMS)
    over_time = jax.vmap(ENV.is_truncated, (0, None))(state, ENV_PARAMS)
    done = terminated | over_time
    returns = envs.returns + rewards

    def restart() -> Envs:
        keys = jr.split(key, ENVS)
        fresh = jax.vmap(ENV.reset_env, (0, None))(keys, ENV_PARAMS)

        def choose(new: Any, old: Any) -> Any:
            return jnp.where(done.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        obs, restarted = jax.tree.map(choose, fresh, (next_obs, state))
        return Envs(obs, restarted, jnp.where(done, 0.0, returns))

    onward = lambda: Envs(next_obs, state, returns)
    numbers = actions.astype(jnp.float32), rewards, 1.0 - terminated
    rows = jnp.concatenate([envs.obs, jnp.stack(numbers, -1), next_obs], -1)
    return jax.lax.cond(jnp.any(done), restart, onward), rows, done, returns


def play(training: Training, actions: Any, key: Any) -> Training:
    """Play one step of each environment and store it."""
    envs, rows, done, returns = step_envs(training.envs, actions, key)
    at = training.played % BUFFER, 0
    mean = jnp.sum(jnp.where(done, returns, 0.0)) / jnp.maximum(jnp.sum(done), 1)
    return training._replace(
        table=jax.lax.dynamic_update_slice(training.table, rows, at),
        played=training.played + ENVS,
        envs=envs,
        last_return=jnp.where(jnp.any(done), mean, training.last_return),
    )


def act(params: Any, obs: Any, updates: Any, uniform: Any) -> Any:
    """The best actions, or random ones; one uniform number decides both."""
    share = jnp.minimum(updates * ENVS / EPSILON_STEPS, 1.0)
    epsilon = EPSILON_START + share * (EPSILON_END - EPSILON_START)
    best = jnp.argmax(apply(params, obs), -1)
    # Below epsilon, a number over epsilon is uniform again.
    chosen = jnp.minimum(uniform / epsilon * ACTIONS, ACTIONS - 1).astype(best.dtype)
    return jnp.where(uniform < epsilon, chosen, best)


def loss(params: Any, obs: Any, actions: Any, targets: Any) -> Any:
    of_actions = jnp.take_along_axis(apply(params, obs), actions[:, None], -1)[:, 0]
    return jnp.mean(optax.losses.l2_loss(of_actions, targets))


def learn(training: Training, uniform: Any) -> Training:
    """One step of Adam on rows that were sampled with replacement."""
    params, filled = training.params, jnp.minimum(training.played, BUFFER)
    indices = jnp.minimum((uniform * filled).astype(jnp.int32), filled - 1)
    batch = training.table[indices]
    obs, numbers, next_obs = jnp.split(batch, [OBS, OBS + 3], -1)
    actions, rewards, goes_on = numbers.T

    # Double DQN: the network chooses, and the target network values.
    chosen = jnp.argmax(apply(params, next_obs), -1, keepdims=True)
    values = jnp.take_along_axis(apply(training.target, next_obs), chosen, -1)[:, 0]
    targets = rewards + GAMMA * goes_on * values

    gradient = jax.grad(loss)(params, obs, actions.astype(jnp.int32), targets)
    steps, opt_state = OPTIMIZER.update(gradient, training.opt_state)
    params = optax.apply_updates(params, steps)
    updates = training.updates + 1
    target = jnp.where(updates % TARGET_EVERY == 0, params, training.target)
    return training._replace(
        params=params, target=target, opt_state=opt_state, updates=updates
    )


def step(training: Training, key: Any) -> tuple[Training, Any]:
    """One step of each environment, and one update."""
    uniform = jr.uniform(key, (BATCH + ENVS,))
    actions = act(training.params, training.envs.obs, training.updates, uniform[BATCH:])
    # Restarts are the only other use of the key, and have their own by a number.
    training = play(training, actions, jr.fold_in(key, 0))
    training = learn(training, uniform[:BATCH])
    return training, training.last_return


@jax.jit
def init(key: Any) -> Training:
    """New networks, and a buffer with the steps of random actions."""
    net_key, env_key, key = jr.split(key, 3)
    params = ravel_pytree(init_net(net_key))[0]
    training = Training(
        params=params,
        target=params,
        opt_state=OPTIMIZER.init(params),
        table=jnp.zeros((BUFFER, 2 * OBS + 3)),
        played=jnp.zeros((), jnp.int32),
        updates=jnp.zeros((), jnp.int32),
        envs=init_envs(env_key),
        last_return=jnp.full((), jnp.nan),
    )

    def body(training: Training, key: Any) -> tuple[Training, None]:
        actions = jr.randint(key, (ENVS,), 0, ACTIONS)
        return play(training, actions, jr.fold_in(key, 0)), None

    return jax.lax.scan(body, training, jr.split(key, LEARNING_STARTS // ENVS))[0]


@functools.partial(jax.jit, static_argnames="steps")
def run(training: Training, key: Any, steps: int) -> tuple[Training, Any]:
    """Go on for some steps, and return the mean return of the last episodes at each."""
    return jax.lax.scan(step, training, jr.split(key, steps))


def train(key: Any, steps: int) -> tuple[Training, Any]:
    """A whole training."""
    init_key, key = jr.split(key)
    return run(init(init_key), key, steps)
