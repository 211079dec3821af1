"""TD3 on Pendulum-v1 in one file of plain JAX: what a trainer's speed is measured by.

It has no guard, no options at run time and no way to resume. A whole run is one
compiled scan, of which each step plays, stores, samples and learns.

- The actor is one vector, and the critics are a row each of one matrix, so that Adam
  and the averages of the targets are few operations instead of some for each matrix.
- The buffer is one array with a row for each transition, which is written by one slice
  and sampled by one gather. It is part of the carry and written in place.
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
BUFFER, BATCH = 50_000, 256
LEARNING_STARTS = 1_000  # steps of uniformly random actions before the first update
LEARNING_RATE, GAMMA, TAU = 1e-3, 0.99, 0.005
POLICY_DELAY = 2  # updates of the critics for one of the actor and of the targets
EXPLORATION_NOISE, TARGET_NOISE, NOISE_CLIP = 0.1, 0.2, 0.5  # times `HALF`
CRITICS, HIDDEN, OBS, ACTIONS = 2, (64, 64), 3, 1
HALF = 2.0  # the half-width of the range of actions

ENV, ENV_PARAMS = gymnax.make("Pendulum-v1")
OPTIMIZER = optax.adam(LEARNING_RATE)
ACTOR_SIZES = OBS, *HIDDEN, ACTIONS
CRITIC_SIZES = OBS + ACTIONS, *HIDDEN, 1


class Envs(NamedTuple):
    """The environments side by side, and the returns of their episodes so far."""

    obs: Any
    state: Any
    returns: Any


class Training(NamedTuple):
    """What goes from one step to the next."""

    actor: Any
    critics: Any
    target_actor: Any
    target_critics: Any
    actor_opt: Any
    critics_opt: Any
    table: Any  # a row: observation, action, reward, whether it goes on, the next one
    played: Any  # steps, of all environments together
    updates: Any
    envs: Envs
    last_return: Any  # the mean of the episodes that ended last


def init_net(sizes: tuple[int, ...], key: Any) -> Any:
    """Uniform weights and biases, of at most one over the root of the inputs."""
    net = []
    for i, (m, n) in enumerate(itertools.pairwise(sizes)):
        draw = jr.uniform(jr.fold_in(key, i), (m + 1, n), minval=-1, maxval=1)
        draw = draw / math.sqrt(m)
        net.append((draw[:m], draw[m]))
    return net


def apply(net: Any, x: Any) -> Any:
    *hidden, (weight, bias) = net
    for w, b in hidden:
        x = jax.nn.relu(x @ w + b)
    return x @ weight + bias


def unravel(sizes: tuple[int, ...], vector: Any) -> Any:
    shapes = jax.eval_shape(functools.partial(init_net, sizes), jr.key(0))
    return ravel_pytree(shapes)[1](vector)


def act(actor: Any, obs: Any) -> Any:
    return HALF * jnp.tanh(apply(unravel(ACTOR_SIZES, actor), obs))


def values_of(critics: Any, obs: Any, actions: Any) -> Any:
    """The values of each critic, of the shape `(critics, batch)`."""
    x = jnp.concatenate([obs, actions], -1)
    return jax.vmap(lambda net: apply(unravel(CRITIC_SIZES, net), x)[:, 0])(critics)


def init_envs(key: Any) -> Envs:
    obs, state = jax.vmap(ENV.reset_env, (0, None))(jr.split(key, ENVS), ENV_PARAMS)
    # Time starts as a Python number, and would change its type in the first step.
    state = jax.tree.map(lambda x: jnp.asarray(x, x.dtype), state)
    return Envs(obs, state, jnp.zeros(ENVS))


def step_envs(envs: Envs, actions: Any, key: Any) -> tuple[Envs, Any, Any, Any]:
    """The environments to go on from, rows for the buffer, and what ended."""
    step = jax.vmap(ENV.step_env, (None, 0, 0, None))
    # Pendulum uses its key at restarts alone.
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
    numbers = jnp.stack([rewards, 1.0 - terminated], -1)
    rows = jnp.concatenate([envs.obs, actions, numbers, next_obs], -1)
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


def sample(training: Training, key: Any) -> Any:
    """Rows that were sampled with replacement, as observation, action and so on."""
    filled = jnp.minimum(training.played, BUFFER)
    batch = training.table[jr.randint(key, (BATCH,), 0, filled)]
    obs, actions, numbers, next_obs = jnp.split(
        batch, [OBS, OBS + ACTIONS, OBS + ACTIONS + 2], -1
    )
    return obs, actions, *numbers.T, next_obs


def critics_loss(critics: Any, obs: Any, actions: Any, targets: Any) -> Any:
    errors = values_of(critics, obs, actions) - targets
    return 0.5 * jnp.sum(jnp.mean(errors**2, -1))


def actor_loss(actor: Any, critics: Any, obs: Any) -> Any:
    return -jnp.mean(values_of(critics[:1], obs, act(actor, obs)))


def toward(target: Any, new: Any) -> Any:
    return target + TAU * (new - target)


def learn(training: Training, batch: Any, noise: Any) -> Training:
    """One step of the critics, and each second time one of the actor and targets."""
    obs, actions, rewards, goes_on, next_obs = batch
    noise = jnp.clip(TARGET_NOISE * noise, -NOISE_CLIP, NOISE_CLIP)
    next_actions = act(training.target_actor, next_obs) + HALF * noise
    next_actions = jnp.clip(next_actions, -HALF, HALF)
    next_values = values_of(training.target_critics, next_obs, next_actions)
    targets = rewards + GAMMA * goes_on * jnp.min(next_values, 0)

    gradient = jax.grad(critics_loss)(training.critics, obs, actions, targets)
    steps, critics_opt = OPTIMIZER.update(gradient, training.critics_opt)
    critics = optax.apply_updates(training.critics, steps)

    def delayed() -> Any:
        gradient = jax.grad(actor_loss)(training.actor, critics, obs)
        steps, actor_opt = OPTIMIZER.update(gradient, training.actor_opt)
        actor = optax.apply_updates(training.actor, steps)
        target_actor = toward(training.target_actor, actor)
        return actor, actor_opt, target_actor, toward(training.target_critics, critics)

    def kept() -> Any:
        t = training
        return t.actor, t.actor_opt, t.target_actor, t.target_critics

    actor, actor_opt, target_actor, target_critics = jax.lax.cond(
        training.updates % POLICY_DELAY == 0, delayed, kept
    )
    return training._replace(
        actor=actor,
        critics=critics,
        target_actor=target_actor,
        target_critics=target_critics,
        actor_opt=actor_opt,
        critics_opt=critics_opt,
        updates=training.updates + 1,
    )


def step(training: Training, key: Any) -> tuple[Training, Any]:
    """One step of each environment, and one update."""
    noise_key, batch_key, env_key = jr.split(key, 3)
    noise = jr.normal(noise_key, (BATCH + ENVS, ACTIONS))
    actions = act(training.actor, training.envs.obs)
    actions = actions + HALF * EXPLORATION_NOISE * noise[BATCH:]
    training = play(training, jnp.clip(actions, -HALF, HALF), env_key)
    training = learn(training, sample(training, batch_key), noise[:BATCH])
    return training, training.last_return


@jax.jit
def init(key: Any) -> Training:
    """New networks, and a buffer with the steps of random actions."""
    actor_key, critics_key, env_key, key = jr.split(key, 4)
    flat = lambda sizes, key: ravel_pytree(init_net(sizes, key))[0]
    actor = flat(ACTOR_SIZES, actor_key)
    critics = jax.vmap(functools.partial(flat, CRITIC_SIZES))(
        jr.split(critics_key, CRITICS)
    )
    training = Training(
        actor=actor,
        critics=critics,
        target_actor=actor,
        target_critics=critics,
        actor_opt=OPTIMIZER.init(actor),
        critics_opt=OPTIMIZER.init(critics),
        table=jnp.zeros((BUFFER, 2 * OBS + ACTIONS + 2)),
        played=jnp.zeros((), jnp.int32),
        updates=jnp.zeros((), jnp.int32),
        envs=init_envs(env_key),
        last_return=jnp.full((), jnp.nan),
    )

    def body(training: Training, key: Any) -> tuple[Training, None]:
        actions = jr.uniform(key, (ENVS, ACTIONS), minval=-HALF, maxval=HALF)
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
