"""The rules of an episode: its beginning, one step, and the scan over all of it."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from .._trees import where
from .._types import PRNGKeyArray, Scalar, Tree
from ..policies import BasePolicy, Moments
from ._spaces import Layout


class Trajectory(eqx.Module):
    """One episode, with a leading axis of `max_steps`.

    Where `valid` is False the episode was over already: everything else is zero there.

    - `obs`: the observation that was acted on, shape `(steps, obs_dims)`; the
        environment's own tree with `flatten_obs=False`.
    - `action`: the action that the environment got, after argmax or clipping.
    - `reward`: the environment's reward for it.
    - `terminated`, `truncated`: whether this step ended the episode, by the
        environment's own rules or by a time limit.
    - `extras`: the extras of `policy.decide`; `None` for a policy without any.
    """

    obs: Tree
    action: Tree
    reward: Float[Array, "*steps"]
    valid: Bool[Array, "*steps"]
    terminated: Bool[Array, "*steps"]
    truncated: Bool[Array, "*steps"]
    extras: Tree = None


class Experience(eqx.Module):
    """One step of an episode as a learner needs it.

    - `obs`: the observation that was acted on.
    - `output`: the policy's own output, before argmax or clipping.
    - `extras`: the extras of `policy.decide`; `None` for a policy without any.
    - `action`: the action that the environment got, after argmax or clipping.
    - `reward`: the environment's reward for it.
    - `terminated`, `truncated`: whether this step ended the episode, by the
        environment's own rules or by a time limit.
    - `next_obs`: the observation after the step; at an episode's end its last one, not
        the first of the next episode.
    """

    obs: Tree
    output: Tree
    extras: Tree
    action: Tree
    reward: Float[Array, "*steps"]
    terminated: Bool[Array, "*steps"]
    truncated: Bool[Array, "*steps"]
    next_obs: Tree


class Episode(eqx.Module):
    """An episode in progress.

    - `env_state`, `obs`: the environment's state, and what it shows the policy.
    - `policy_state`: the policy's own state.
    - `done`: whether the episode is over.
    - `total`, `length`: the rewards and the steps so far.
    - `moments`: the sums over the observations so far; `None` unless they are counted.
    """

    env_state: Tree
    obs: Tree
    policy_state: Tree
    done: Bool[Array, ""]
    total: Scalar
    length: Int[Array, ""]
    moments: Moments | None


# What a scan over an episode keeps of a step: `(episode before it, row) -> tree`.
type Collect = Callable[[Episode, Trajectory], Tree]


class Rollout(eqx.Module):
    """The rules of episodes on an environment, by which everything plays them.

    An episode's key splits into three, `job_keys`: for the environment, for
    `policy.initialize`, and for the policy's steps, of which step `t` gets
    `fold_in(key, t)`.
    """

    environment: Any
    action_space: Any
    obs_layout: Layout = eqx.field(static=True)
    action_layout: Layout = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    flatten_obs: bool = eqx.field(static=True)

    def begin(
        self,
        policy: BasePolicy[Any],
        env_key: PRNGKeyArray,
        init_key: PRNGKeyArray,
        *,
        count: bool = False,
    ) -> Episode:
        """An episode before its first step.

        **Arguments:**

        - `policy`: the policy that will play.
        - `env_key`, `init_key`: the first two of the episode's `job_keys`.
        - `count`: whether to sum up the observations.
        """
        env_state, info = self.environment.init(env_key)
        obs = self.shown(info.obs)
        return Episode(
            env_state=env_state,
            obs=obs,
            policy_state=policy.initialize(init_key),
            done=jnp.asarray(False),
            total=jnp.zeros(()),
            length=jnp.zeros((), jnp.int32),
            moments=Moments.before(obs) if count else None,
        )

    def step(
        self,
        policy: BasePolicy[Any],
        episode: Episode,
        policy_key: PRNGKeyArray,
        live: Bool[Array, ""] | bool = True,
    ) -> tuple[Episode, Experience]:
        """One step of an episode that is not over.

        **Arguments:**

        - `policy`: the policy that plays.
        - `episode`: the episode so far.
        - `policy_key`: the last of the episode's `job_keys`.
        - `live`: whether the step counts; else no error is raised for its action.
        """
        t = episode.length
        moments = episode.moments
        if moments is not None:
            moments = moments.with_obs(episode.obs)
        decision = policy.decide(
            episode.obs, episode.policy_state, jr.fold_in(policy_key, t)
        )
        action = self.action_layout.to_action(decision.output, self.action_space, live)
        env_state, info = self.environment.step(episode.env_state, action)
        reward = jnp.asarray(info.reward, jnp.result_type(float))
        if reward.shape != ():
            raise ValueError(
                f"the environment's reward must be one number, but got rewards "
                f"of shape {reward.shape}, as several agents get them. Wrap the "
                "environment in one that adds them up."
            )
        terminated = jnp.asarray(info.terminated, bool)
        truncated = jnp.asarray(info.truncated, bool) | (t + 1 >= self.max_steps)
        after = Episode(
            env_state=env_state,
            obs=self.shown(info.obs),
            policy_state=decision.state,
            done=terminated | truncated,
            total=episode.total + reward,
            length=t + 1,
            moments=moments,
        )
        return after, Experience(
            obs=episode.obs,
            output=decision.output,
            extras=decision.extras,
            action=action,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            next_obs=after.obs,
        )

    def advance(
        self, policy: BasePolicy[Any], episode: Episode, policy_key: PRNGKeyArray
    ) -> tuple[Episode, Trajectory]:
        """One step, after which an episode that was over is as it was before.

        **Arguments:**

        - `policy`, `episode`, `policy_key`: as for `step`.
        """
        live = ~episode.done
        after, step = self.step(policy, episode, policy_key, live)
        # Frozen, so that no number of it can turn NaN behind a mask and reach a
        # gradient.
        after = where(live, after, episode)
        row = Trajectory(
            obs=step.obs,
            action=step.action,
            reward=step.reward,
            valid=live,
            terminated=step.terminated,
            truncated=step.truncated,
            extras=step.extras,
        )
        return after, where(live, row, jax.tree.map(jnp.zeros_like, row))

    def scan(
        self,
        policy: BasePolicy[Any],
        key: PRNGKeyArray,
        *,
        collect: Collect | None = None,
        count: bool = False,
    ) -> tuple[Episode, Tree]:
        """A whole episode.

        **Arguments:**

        - `policy`: the policy that plays.
        - `key`: the episode's key.
        - `collect`: a function of the episode before each step and of the step's row,
            such as `row_of`.
        - `count`: whether to sum up the observations.

        **Returns:** The episode at its end, and what `collect` returned, with a leading
        axis of `max_steps`; `None` without it.
        """
        env_key, init_key, policy_key = job_keys(key)
        start = self.begin(policy, env_key, init_key, count=count)
        arrays, static = eqx.partition(start, eqx.is_array_like)

        def body(arrays: Any, _: None) -> tuple[Any, Tree]:
            before = eqx.combine(arrays, static)
            after, row = self.advance(policy, before, policy_key)
            kept = None if collect is None else collect(before, row)
            return eqx.filter(after, eqx.is_array_like), kept

        arrays, kept = jax.lax.scan(body, arrays, None, length=self.max_steps)
        return eqx.combine(arrays, static), kept

    def shown(self, obs: Tree) -> Tree:
        """An environment's observation as the policy gets it."""
        if self.flatten_obs:
            return self.obs_layout.flatten(obs)
        return jax.tree.map(jnp.asarray, obs)


def row_of(episode: Episode, row: Trajectory) -> Trajectory:
    """The row of a step, by which a scan collects the `Trajectory`."""
    del episode
    return row


def job_keys(key: PRNGKeyArray) -> PRNGKeyArray:
    """An episode's three keys: the environment's, the policy's first, its steps'."""
    # Not `key` itself for the policy: `fold_in(key, 0)` is `split(key)[0]`.
    return jr.split(key, 3)


def arrays_of(episode: Episode) -> Episode:
    """The arrays of an episode, numbers included, without what is no array."""
    return jax.tree.map(jnp.asarray, eqx.filter(episode, eqx.is_array_like))


def rest_of(outline: Episode) -> Episode:
    """The leaves of an episode that are no arrays.

    **Arguments:**

    - `outline`: an episode as `eqx.filter_eval_shape` returns it.
    """
    return eqx.filter(
        outline,
        lambda x: isinstance(x, jax.ShapeDtypeStruct) or eqx.is_array_like(x),
        inverse=True,
    )
